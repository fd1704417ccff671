//! Quarantine of damaged files: `<name>.corrupt-<YYYYMMDDTHHMMSSZ>`.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use kms_agent_core::Timestamp;
use kms_agent_sealed::private;

/// Renames the file at `path` and returns its new path. It replaces the file quarantined before. `None`: there is no
/// file.
pub(crate) fn rename(path: &Path, now: Timestamp) -> io::Result<Option<PathBuf>> {
    let prefix = format!("{}.corrupt-", private::name(path));
    let name = format!("{prefix}{}", stamp(now));
    let target = path.with_file_name(&name);
    match fs::rename(path, &target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        renamed => renamed?,
    }
    for entry in fs::read_dir(private::folder(path))?.flatten() {
        if entry.file_name() != *name && is_quarantined(&entry, &prefix) {
            fs::remove_file(entry.path())?;
        }
    }
    private::sync_folder(path)?;
    Ok(Some(target))
}

/// Returns whether `entry` is a quarantined file, by its whole name.
fn is_quarantined(entry: &DirEntry, prefix: &str) -> bool {
    let name = entry.file_name();
    name.to_str()
        .and_then(|name| name.strip_prefix(prefix))
        .is_some_and(is_stamp)
        && entry.file_type().is_ok_and(|kind| kind.is_file())
}

fn stamp(at: Timestamp) -> String {
    at.to_rfc3339().unwrap_or_default().replace(['-', ':'], "")
}

fn is_stamp(text: &str) -> bool {
    let shape = |at: u8| if at.is_ascii_digit() { b'0' } else { at };
    text.bytes().map(shape).eq(*b"00000000T000000Z")
}
