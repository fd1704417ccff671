//! `kms-agent.log`, rotated by size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{self, Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::{LogConfig, LogFormat};
use crate::platform;

const NAME: &str = "kms-agent.log";

/// Readable by the group, so that a log shipper needs no more rights than that; never by others.
const MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

/// How often the name of the file is looked at: another program may have moved the file away.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A log file that is set aside when it is full: `kms-agent.log.1` is the newest of those. What other programs do with
/// the file is followed: truncated, it is appended to; moved away or removed, it is begun again.
#[derive(Debug)]
pub(super) struct RotatingFile {
    /// Absolute, so that an operator finds it.
    path: PathBuf,
    max_bytes: u64,
    max_backups: u32,
    format: LogFormat,
    file: File,
    looked_at: Instant,
}

impl RotatingFile {
    /// Opens the file in `folder`, which is made if need be. Never waits, whatever stands in the file's place. A file
    /// with lines of the other format is set aside, where such files are kept.
    pub(super) fn open(folder: &Path, config: &LogConfig) -> io::Result<Self> {
        let folder = path::absolute(folder)?;
        platform::make_folder(&folder, FOLDER_MODE)?;
        let path = folder.join(NAME);
        let mut log = Self {
            file: append(&path)?,
            path,
            max_bytes: config.max_bytes,
            max_backups: config.max_backups,
            format: config.format,
            looked_at: Instant::now(),
        };
        if log.max_backups > 0 && format_of(&log.path).is_some_and(|format| format != config.format)
        {
            // Without room to rotate the formats are mixed.
            let _ = log.rotate();
        }
        Ok(log)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn format(&self) -> LogFormat {
        self.format
    }

    /// Removes the files that were set aside while `kept` of them were kept and are now too many.
    pub(super) fn remove_backups_beyond(&self, kept: u32) {
        for number in self.max_backups + 1..=kept {
            // A gap in the row is no fault.
            let _ = fs::remove_file(self.backup(number));
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.max_backups == 0 {
            return self.file.set_len(0);
        }
        // The next file comes first, so that nothing has moved where there is no room for it.
        let next = self.path.with_extension("log.next");
        let file = append(&next)?;
        for number in (1..self.max_backups).rev() {
            // A gap in the row is no fault.
            let _ = fs::rename(self.backup(number), self.backup(number + 1));
        }
        match fs::rename(&self.path, self.backup(1)) {
            // Another program may have taken it away.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let _ = fs::remove_file(&next);
                return Err(error);
            }
            _ => {}
        }
        fs::rename(&next, &self.path)?;
        self.file = file;
        Ok(())
    }

    /// Opens the file again where its name no longer leads to it. Returns the file's size, which another program may
    /// have changed.
    fn follow(&mut self) -> io::Result<u64> {
        let open = self.file.metadata()?;
        let is_removed = platform::is_removed(&open);
        if !is_removed && self.looked_at.elapsed() < LOOK_EVERY {
            return Ok(open.len());
        }
        self.looked_at = Instant::now();
        let is_there = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| platform::identity(&found) == platform::identity(&open));
        if is_there && !is_removed {
            return Ok(open.len());
        }
        match self.reopen() {
            Ok(size) => Ok(size),
            // Nobody will ever read what is written to a removed file.
            Err(error) if is_removed => Err(error),
            // The file is only called otherwise, and better than none.
            Err(_) => Ok(open.len()),
        }
    }

    fn reopen(&mut self) -> io::Result<u64> {
        if let Some(folder) = self.path.parent() {
            platform::make_folder(folder, FOLDER_MODE)?;
        }
        self.file = append(&self.path)?;
        Ok(self.file.metadata()?.len())
    }

    /// Takes back the first bytes of a line, so that the next line does not run into them.
    fn undo(&self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Ok(());
        }
        let written = u64::try_from(written).unwrap_or(u64::MAX);
        let size = self.file.metadata()?.len();
        self.file.set_len(size.saturating_sub(written))
    }

    fn backup(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

impl Write for RotatingFile {
    /// Takes a whole line. A full disk costs the line and nothing else.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let size = self.follow()?;
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if size > 0 && size.saturating_add(length) > self.max_bytes {
            // Without room to rotate the file grows on; the next line tries again.
            let _ = self.rotate();
        }
        let mut rest = line;
        while !rest.is_empty() {
            let failed = match self.file.write(rest) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            let _ = self.undo(line.len() - rest.len());
            return Err(failed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Opens or makes a regular file to append to. Anything else in its place is an error, and is never waited for.
fn append(path: &Path) -> io::Result<File> {
    let refused = || io::Error::other(format!("{} is not a regular file", path.display()));
    // Before it is opened: opening a device may do something to it.
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(refused());
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    let file =
        platform::without_links_or_waiting(platform::made_with(&mut options, MODE)).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(refused());
    }
    platform::restrict(&file, MODE);
    Ok(file)
}

/// The format of the first line of the file at `path`, where there is a line and it can be read.
fn format_of(path: &Path) -> Option<LogFormat> {
    let mut options = OpenOptions::new();
    options.read(true);
    let mut file = platform::without_links_or_waiting(&mut options)
        .open(path)
        .ok()?;
    let mut first = [0];
    file.read_exact(&mut first).ok()?;
    Some(match first {
        [b'{'] => LogFormat::Json,
        _ => LogFormat::Text,
    })
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::{LogLevel, LogTarget};

    fn open(folder: &Path, max_bytes: u64, max_backups: u32) -> io::Result<RotatingFile> {
        open_as(folder, max_bytes, max_backups, LogFormat::Text)
    }

    fn open_as(
        folder: &Path,
        max_bytes: u64,
        max_backups: u32,
        format: LogFormat,
    ) -> io::Result<RotatingFile> {
        let config = LogConfig {
            level: LogLevel::Info,
            target: LogTarget::Folder(folder.to_owned()),
            max_bytes,
            max_backups,
            format,
        };
        RotatingFile::open(folder, &config)
    }

    #[test]
    fn full_files_are_set_aside_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(&folder.path().join("logs"), 10, 2).unwrap();
        for line in ["one---\n", "two---\n", "three-\n", "four--\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let text = |name: &str| fs::read_to_string(folder.path().join("logs").join(name)).unwrap();
        assert_eq!(text("kms-agent.log"), "four--\n");
        assert_eq!(text("kms-agent.log.1"), "three-\n");
        assert_eq!(text("kms-agent.log.2"), "two---\n");
        assert_eq!(fs::read_dir(folder.path().join("logs")).unwrap().count(), 3);
    }

    #[test]
    fn without_room_for_the_next_file_nothing_moves_and_the_log_grows_on() {
        let folder = tempfile::tempdir().unwrap();
        let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        let in_the_way = folder.path().join("kms-agent.log.next");
        let mut log = open(folder.path(), 10, 2).unwrap();
        let mut write = |line: &str| log.write_all(line.as_bytes()).unwrap();
        write("one---\n");
        write("two---\n");
        fs::create_dir(&in_the_way).unwrap();
        write("three-\n");
        write("four--\n");
        assert_eq!(text(NAME), "two---\nthree-\nfour--\n");
        assert_eq!(text("kms-agent.log.1"), "one---\n");
        fs::remove_dir(&in_the_way).unwrap();
        write("five--\n");
        assert_eq!(text(NAME), "five--\n");
        assert_eq!(text("kms-agent.log.2"), "one---\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    fn text(folder: &Path, name: &str) -> String {
        fs::read_to_string(folder.join(name)).unwrap_or_default()
    }

    #[test]
    fn a_removed_file_is_begun_again_with_the_next_line() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        let mut log = open(&logs, 100, 2).unwrap();
        log.write_all(b"one\n").unwrap();
        fs::remove_file(logs.join(NAME)).unwrap();
        log.write_all(b"two\n").unwrap();
        assert_eq!(text(&logs, NAME), "two\n");
        fs::remove_dir_all(&logs).unwrap();
        log.write_all(b"three\n").unwrap();
        assert_eq!(text(&logs, NAME), "three\n");
    }

    #[test]
    fn a_line_for_a_removed_file_is_an_error_while_there_can_be_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let mut log = open(folder.path(), 100, 2).unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        log.write_all(b"lost\n").unwrap_err();
        fs::remove_dir(&path).unwrap();
        log.write_all(b"kept\n").unwrap();
        assert_eq!(text(folder.path(), NAME), "kept\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path(), 100, 2).unwrap();
        log.write_all(b"one\n").unwrap();
        fs::rename(folder.path().join(NAME), folder.path().join("moved")).unwrap();
        // As if the time to look had passed.
        log.looked_at -= LOOK_EVERY;
        log.write_all(b"two\n").unwrap();
        assert_eq!(text(folder.path(), "moved"), "one\n");
        assert_eq!(text(folder.path(), NAME), "two\n");
    }

    #[test]
    fn a_truncated_file_is_rotated_by_its_own_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let mut log = open(folder.path(), 10, 2).unwrap();
        for _ in 0..5 {
            log.write_all(b"line--\n").unwrap();
            fs::write(&path, "").unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        log.write_all(b"last--\n").unwrap();
        assert_eq!(text(folder.path(), NAME), "last--\n");
    }

    #[test]
    fn nothing_but_a_regular_file_is_opened_and_nothing_is_waited_for() {
        for name in [NAME, "kms-agent.log.next"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(name);
            let place = |make: &dyn Fn()| {
                make();
                append(&path).unwrap_err();
                if fs::symlink_metadata(&path).unwrap().is_dir() {
                    fs::remove_dir(&path).unwrap();
                } else {
                    fs::remove_file(&path).unwrap();
                }
            };
            let fifo = |path: &Path| {
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    path,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RWXU,
                    0,
                )
                .unwrap();
            };
            place(&|| fifo(&path));
            place(&|| fs::create_dir(&path).unwrap());
            place(&|| std::os::unix::fs::symlink("/dev/null", &path).unwrap());
            place(&|| {
                std::os::unix::net::UnixListener::bind(&path).unwrap();
            });
        }
    }

    #[test]
    fn a_file_of_the_other_format_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        for (format, line) in [
            (LogFormat::Text, "2026\n"),
            (LogFormat::Json, "{}\n"),
            (LogFormat::Json, "{}\n"),
        ] {
            let mut log = open_as(folder.path(), 100, 2, format).unwrap();
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(text(folder.path(), NAME), "{}\n{}\n");
        assert_eq!(text(folder.path(), "kms-agent.log.1"), "2026\n");
        // Where none are kept, nothing is removed for the sake of the format.
        open_as(folder.path(), 100, 0, LogFormat::Text).unwrap();
        assert_eq!(text(folder.path(), NAME), "{}\n{}\n");
    }

    #[test]
    fn fewer_backups_leave_no_older_ones() {
        let folder = tempfile::tempdir().unwrap();
        for number in 1..=6 {
            fs::write(folder.path().join(format!("{NAME}.{number}")), "").unwrap();
        }
        let log = open(folder.path(), 100, 2).unwrap();
        log.remove_backups_beyond(4);
        for (number, is_kept) in [(1, true), (2, true), (3, false), (4, false), (5, true)] {
            let path = folder.path().join(format!("{NAME}.{number}"));
            assert_eq!(path.exists(), is_kept, "{number}");
        }
    }

    #[test]
    fn an_open_file_is_restricted_and_a_strict_one_stays_strict() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        for (before, after) in [(0o666, 0o640), (0o644, 0o640), (0o600, 0o600)] {
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(before)).unwrap();
            open(folder.path(), 100, 0).unwrap();
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, after);
        }
    }

    #[test]
    fn others_may_not_read_it_and_a_restart_appends() {
        let folder = tempfile::tempdir().unwrap();
        for line in ["one\n", "two\n"] {
            let mut log = open(folder.path(), 100, 0).unwrap();
            log.write_all(line.as_bytes()).unwrap();
        }
        let path = folder.path().join(NAME);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0);
    }
}
