//! `kms-agent.log`, rotated by size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::platform;

const NAME: &str = "kms-agent.log";

/// Readable by the group, so that a log shipper needs no more rights than that; never by others.
const MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

/// A log file that is set aside when it is full: `kms-agent.log.1` is the newest of those.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    max_bytes: u64,
    max_backups: u32,
    file: File,
    bytes: u64,
}

impl RotatingFile {
    /// Opens the file in `folder`, which is made if need be.
    pub(super) fn open(folder: &Path, max_bytes: u64, max_backups: u32) -> io::Result<Self> {
        platform::make_folder(folder, FOLDER_MODE)?;
        let path = folder.join(NAME);
        let file = append(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            path,
            max_bytes,
            max_backups,
            file,
            bytes,
        })
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.max_backups == 0 {
            self.file.set_len(0)?;
        } else {
            // The next file comes first, so that nothing has moved where there is no room for it.
            let next = self.path.with_extension("log.next");
            let file = append(&next)?;
            for number in (1..self.max_backups).rev() {
                // A gap in the row is no fault.
                let _ = fs::rename(self.backup(number), self.backup(number + 1));
            }
            // Somebody may have taken it away.
            let _ = fs::rename(&self.path, self.backup(1));
            fs::rename(&next, &self.path)?;
            self.file = file;
        }
        self.bytes = 0;
        Ok(())
    }

    /// Takes back what was written of a line, lest the next one run into it.
    fn undo(&self) -> io::Result<()> {
        if self.file.metadata()?.len() > self.bytes {
            self.file.set_len(self.bytes)?;
        }
        Ok(())
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
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.bytes > 0 && self.bytes.saturating_add(length) > self.max_bytes {
            // Without room to rotate the file grows on; the next line tries again.
            let _ = self.rotate();
        }
        if let Err(error) = self.file.write_all(line) {
            let _ = self.undo();
            return Err(error);
        }
        self.bytes = self.bytes.saturating_add(length);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    platform::without_links(platform::made_with(&mut options, MODE)).open(path)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn full_files_are_set_aside_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = RotatingFile::open(&folder.path().join("logs"), 10, 2).unwrap();
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
        let mut log = RotatingFile::open(folder.path(), 10, 2).unwrap();
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

    #[test]
    fn a_log_that_somebody_took_away_is_begun_anew_when_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = RotatingFile::open(folder.path(), 10, 2).unwrap();
        log.write_all(b"one---\n").unwrap();
        fs::remove_file(folder.path().join(NAME)).unwrap();
        log.write_all(b"two---\n").unwrap();
        assert_eq!(
            fs::read_to_string(folder.path().join(NAME)).unwrap(),
            "two---\n"
        );
    }

    #[test]
    fn others_may_not_read_it_and_a_restart_appends() {
        let folder = tempfile::tempdir().unwrap();
        for line in ["one\n", "two\n"] {
            let mut log = RotatingFile::open(folder.path(), 100, 0).unwrap();
            log.write_all(line.as_bytes()).unwrap();
        }
        let path = folder.path().join(NAME);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0);
    }
}
