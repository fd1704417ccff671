//! Atomic replacement of one file.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use kms_agent_trust::{DistrustReason, ExistingFile, FilePlace, Verdict, folder_of};
use zeroize::Zeroizing;

/// Digits at the end of a temporary name.
const UNIQUE_DIGITS: usize = 16;

/// Bytes of the target's name that a temporary name repeats. Names have at most 255.
const REPEATED_BYTES: usize = 200;

/// A file that is kept equal to a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its path. A link at its end is replaced.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
    /// Number of its group; `None` for that of the process.
    pub group: Option<u32>,
}

/// Outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The file was replaced or created.
    Replaced,
    /// The file had these bytes already and was not touched.
    Unchanged,
}

/// Reason why a file cannot be written or removed.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The folder is missing.
    #[error("the folder {} does not exist; create it", .0.display())]
    NoFolder(PathBuf),
    /// Other users may change the folder.
    #[error("{0}")]
    Untrusted(DistrustReason),
    /// Something is mounted at the path, so that no file can be put there.
    #[error("it is a mount point; mount the folder")]
    MountPoint,
    /// A folder, a device, a pipe or a socket is there.
    #[error("neither a regular file nor a link is there")]
    NotAFile,
    /// A step failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Target {
    /// Makes the file hold `bytes`. Readers see the old file or the new one, and no other user sees an incomplete one.
    pub fn write(&self, bytes: &[u8]) -> Result<WriteOutcome, TargetError> {
        let place = self.place()?;
        let existing = existing(&place)?;
        if let Some(existing) = existing
            && self.holds(&place, existing, bytes)
        {
            return Ok(WriteOutcome::Unchanged);
        }
        let (file, made) = place.make_beside(&self.prefix())?;
        let written = self.fill(file, bytes).and_then(|()| place.put(&made));
        if let Err(error) = written {
            let _ = place.remove(&made);
            return Err(match error.kind() {
                io::ErrorKind::ResourceBusy => TargetError::MountPoint,
                _ => error.into(),
            });
        }
        place.sync()?;
        Ok(WriteOutcome::Replaced)
    }

    /// Removes the file. Returns whether one was there.
    pub fn remove(&self) -> Result<bool, TargetError> {
        let place = self.place()?;
        if existing(&place)?.is_none() {
            return Ok(false);
        }
        place.clear()?;
        place.sync()?;
        Ok(true)
    }

    /// Removes temporary files of an earlier process that was killed while it wrote.
    pub fn remove_leftovers(&self) -> Result<(), TargetError> {
        let place = self.place()?;
        let prefix = self.prefix();
        for name in place.names_beside(&prefix)? {
            if is_leftover(&name, &prefix) {
                place.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Checks whether the file can be written, without writing it. Returns a warning about the folder.
    pub fn examine(&self) -> Result<Option<String>, TargetError> {
        let place = self.place()?;
        existing(&place)?;
        let folder = folder_of(&self.path).display();
        Ok(match place.verdict() {
            Verdict::Warned(warning) => Some(warning),
            _ if !place.is_in_memory()? => Some(format!(
                "the folder {folder} is not on tmpfs, so secrets are written to a disk; use a folder below /run"
            )),
            _ => None,
        })
    }

    fn place(&self) -> Result<FilePlace, TargetError> {
        let place = FilePlace::find_unfollowed(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => TargetError::NoFolder(folder_of(&self.path).to_owned()),
            _ => error.into(),
        })?;
        if let Verdict::Refused(refusal) = place.verdict() {
            return Err(TargetError::Untrusted(refusal));
        }
        Ok(place)
    }

    /// Whether the file that is there needs no change. One that others can reach by another name, or that has other
    /// permissions, is replaced.
    fn holds(&self, place: &FilePlace, existing: ExistingFile, bytes: &[u8]) -> bool {
        let is_as_wanted = existing.is_file
            && !existing.has_more_names
            && existing.mode == self.mode
            && self.group.is_none_or(|group| group == existing.group)
            && is_of_this_process(existing);
        is_as_wanted
            && place
                .open_for_reading()
                .and_then(|file| has_bytes(file, bytes))
                .unwrap_or(false)
    }

    /// Writes with mode 0600. Group and mode follow when the bytes are complete and synced.
    fn fill(&self, mut file: File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)?;
        file.sync_all()?;
        #[cfg(unix)]
        {
            use std::fs::Permissions;
            use std::os::unix::fs::{PermissionsExt, fchown};

            if let Some(group) = self.group {
                fchown(&file, None, Some(group))?;
            }
            file.set_permissions(Permissions::from_mode(self.mode))?;
        }
        Ok(())
    }

    /// Begin of the temporary names of this file.
    fn prefix(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let end = name.floor_char_boundary(REPEATED_BYTES);
        format!(".{}.kms-agent-", name.get(..end).unwrap_or(&name))
    }
}

/// Returns the file or link that is there.
fn existing(place: &FilePlace) -> Result<Option<ExistingFile>, TargetError> {
    let existing = place.existing()?;
    if existing.is_some() && place.is_mount_point() {
        return Err(TargetError::MountPoint);
    }
    if existing.is_some_and(|existing| !existing.is_file && !existing.is_link) {
        return Err(TargetError::NotAFile);
    }
    Ok(existing)
}

/// Compares a file with `bytes` without keeping a copy of it.
fn has_bytes(file: File, bytes: &[u8]) -> io::Result<bool> {
    if file.metadata()?.len() != bytes.len() as u64 {
        return Ok(false);
    }
    let mut found = Zeroizing::new(Vec::with_capacity(bytes.len() + 1));
    file.take(bytes.len() as u64 + 1).read_to_end(&mut found)?;
    Ok(*found == bytes)
}

fn is_leftover(name: &OsString, prefix: &str) -> bool {
    name.to_str()
        .and_then(|name| name.strip_prefix(prefix))
        .is_some_and(|unique| {
            unique.len() == UNIQUE_DIGITS && unique.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}

#[cfg(unix)]
fn is_of_this_process(existing: ExistingFile) -> bool {
    existing.user == rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn is_of_this_process(_existing: ExistingFile) -> bool {
    true
}

/// Whether the path is one that a file can be kept at.
pub fn names_a_file(path: &Path) -> bool {
    path.file_name().is_some() && !path.as_os_str().to_string_lossy().ends_with('/')
}

#[cfg(test)]
mod tests;
