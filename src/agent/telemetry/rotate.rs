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
        kms_agent_trust::make_folder(&folder, FOLDER_MODE)?;
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
            kms_agent_trust::make_folder(folder, FOLDER_MODE)?;
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
mod tests;
