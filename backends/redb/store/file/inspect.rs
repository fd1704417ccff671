//! Inspection of store and key before either is opened; nothing is created, changed or locked.

use std::fs::{self, OpenOptions};
use std::ops::Bound;
use std::path::Path;

use kms_agent_core::Scope;
use kms_agent_sealed::key::{KeySource, RootKey};
use kms_agent_sealed::private;
use kms_agent_sealed::seal::Sealer;

use super::disk;
use super::location::{FileId, open_file};
use super::medium::{FileSystem, Medium};
use super::open::resumed;
use crate::store::fault::Fault;

/// Returns whether store and key are in one folder, so that a copy of the folder has both.
pub(crate) fn share_a_folder(path: &Path, key: &KeySource) -> bool {
    let folder = |file: &Path| {
        let folder = private::folder(file);
        fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned())
    };
    key.target().is_some_and(|key| folder(&key) == folder(path))
}

/// Refuses one file for both: the store would replace the key.
pub(crate) fn check_distinct(path: &Path, key: &KeySource) -> Result<(), String> {
    let Some(target) = key.target() else {
        return Ok(());
    };
    let id = |file: &Path| fs::metadata(file).ok().map(|it| FileId::from(&it));
    let is_one = match (id(path), id(&target)) {
        (Some(store), Some(key)) => store == key,
        (None, None) => path.file_name() == target.file_name() && share_a_folder(path, key),
        _ => false,
    };
    if is_one {
        return Err(format!(
            "Cache.Persistent.Path and Cache.Persistent.KeyFile are one file, {}; name another one for the key",
            path.display()
        ));
    }
    Ok(())
}

/// Result of an inspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inspection {
    /// The store opens with this key.
    Ours,
    /// A process has it open.
    InUse,
}

/// Inspects the store at `path` as opening it would.
pub(crate) fn inspect(path: &Path, key: &RootKey) -> Result<Inspection, Fault> {
    let file = FileSystem.open(open_file(path, OpenOptions::new().read(true))?)?;
    let is_locked = file.query_lock_range(Bound::Unbounded, Bound::Unbounded);
    if matches!(is_locked, Ok(true)) {
        return Ok(Inspection::InUse);
    }
    disk::inspect(file, &Sealer::new(key)).map(|_| Inspection::Ours)
}

/// Reads the scope that the store at `path` was last used with, while a process uses it too. Nothing but the scope
/// matters here, so every failure is `None`.
pub(crate) fn read_last_scope(path: &Path, key: &RootKey) -> Option<Scope> {
    let sealer = Sealer::new(key);
    let file = open_file(path, OpenOptions::new().read(true)).ok()?;
    let record = disk::inspect(FileSystem.open(file).ok()?, &sealer).ok()??;
    resumed(&record, &sealer).map(|resumed| Scope::clone(&resumed.scope))
}
