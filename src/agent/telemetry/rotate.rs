//! `kms-agent.log`, rotated by size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{self, Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::{LogConfig, LogFormat};
use crate::platform;

const NAME: &str = "kms-agent.log";

/// Readable by the group, for a log shipper, and never by others.
const MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

/// Interval between checks of the file's name: another program may have moved the file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Log file that is rotated when it is full; `kms-agent.log.1` is the newest rotated file. Changes by other programs
/// are followed: a truncated file is appended to, and a moved or removed file is created again.
#[derive(Debug)]
pub(super) struct RotatingFile {
    /// Absolute, so that an operator finds the file.
    path: PathBuf,
    max_bytes: u64,
    max_backups: u32,
    format: LogFormat,
    file: File,
    looked_at: Instant,
}

impl RotatingFile {
    /// Opens the file in `folder`, which is created if it is missing. Never waits, whatever exists at the path. A file
    /// with lines of the other format is rotated, if rotated files are kept.
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
            // If the rotation fails, the formats are mixed.
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

    /// Removes rotated files beyond the limit; `kept` is the previous limit.
    pub(super) fn remove_backups_beyond(&self, kept: u32) {
        for number in self.max_backups + 1..=kept {
            // A missing number is not an error.
            let _ = fs::remove_file(self.backup(number));
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.max_backups == 0 {
            return self.file.set_len(0);
        }
        // The next file is created first, so that nothing has moved if this fails.
        let next = self.path.with_extension("log.next");
        let file = append(&next)?;
        for number in (1..self.max_backups).rev() {
            // A missing number is not an error.
            let _ = fs::rename(self.backup(number), self.backup(number + 1));
        }
        match fs::rename(&self.path, self.backup(1)) {
            // Another program may have removed it.
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

    /// Opens the file again if its name no longer leads to it. Returns the file's size, which another program may have
    /// changed.
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
            // Lines in a removed file would be lost.
            Err(error) if is_removed => Err(error),
            // The file was only renamed, and can still be read.
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

    /// Removes an incomplete line, so that the next line does not run into it.
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
    /// Writes a whole line. If the disk is full, only this line is lost.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let size = self.follow()?;
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if size > 0 && size.saturating_add(length) > self.max_bytes {
            // If the rotation fails, the file grows, and the next line tries again.
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

/// Opens or creates a regular file to append to. Any other file at the path is an error, without waiting for it.
fn append(path: &Path) -> io::Result<File> {
    let refused = || io::Error::other(format!("{} is not a regular file", path.display()));
    // Checked before it is opened, since opening a device may have an effect.
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

/// Returns the format of the first line of the file at `path`, if it can be read.
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
