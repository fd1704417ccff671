//! Preview of what startup will find; nothing is created, changed or locked.

use std::fs;
use std::io;
use std::path::Path;

use kms_agent_core::Scope;
use kms_agent_sealed::key::{KeyError, KeySource};
use kms_agent_sealed::private;
use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::store::fault::Fault;
use crate::store::{
    Inspection, check_distinct, inspect, key_mismatch_message, kind_of, read_last_scope,
};

/// Describes store and key in a few words. A state that the agent would refuse, or that would cost it its store, is an
/// error.
pub(crate) fn examine(path: &Path, key: &KeySource) -> Result<String, String> {
    let mut found = examine_files(path, key)?;
    // Files that exist have passed the trust check by now.
    let mut doubts = vec![private::judge("store", path)];
    if let KeySource::File(key) = key {
        doubts.push(private::judge("key", key));
    }
    for doubt in doubts.into_iter().filter_map(|doubt| doubt.ok().flatten()) {
        found.push_str("; warning: ");
        found.push_str(&doubt);
    }
    Ok(found)
}

fn examine_files(path: &Path, key: &KeySource) -> Result<String, String> {
    check_distinct(path, key)?;
    let shown = path.display();
    let exists = look(path)?;
    match (exists, key.load()) {
        (true, Ok(root)) => match inspect(path, &root) {
            Ok(Inspection::Ours) => Ok(format!("the store {shown} and its key are there")),
            Ok(Inspection::InUse) => Ok(format!(
                "the store {shown} and its key are there, in use by an agent"
            )),
            Err(Fault::OtherKey) => Err(key_mismatch_message(path)),
            Err(Fault::Damaged(why)) => Err(format!(
                "the store {shown} is damaged ({why}); the agent will quarantine it and create a new one"
            )),
            Err(fault) => Err(format!("the store {shown} cannot be read: {fault:?}")),
        },
        (false, Err(KeyError::Missing(_))) if key.is_ours() => {
            may_begin(path)?;
            if let KeySource::File(key) = key {
                may_begin(key)?;
            }
            Ok(format!(
                "a new store {shown} will be created, with a new key"
            ))
        }
        (false, Ok(_)) => {
            may_begin(path)?;
            Ok(format!("a new store {shown} will be created"))
        }
        (_, Err(error)) => Err(error.message().to_owned()),
    }
}

/// Returns the scope that the store was last used with, if it can be read. An agent may be writing to the store.
pub(crate) fn last_scope(path: &Path, key: &KeySource) -> Option<Scope> {
    look(path).ok().filter(|exists| *exists)?;
    read_last_scope(path, &key.load().ok()?)
}

/// Returns whether there is a store.
fn look(path: &Path) -> Result<bool, String> {
    let shown = path.display();
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found.map_err(|error| format!("the store {shown} cannot be seen: {error}"))?,
    };
    if !metadata.is_file() {
        return Err(format!(
            "the store {shown} is {}; choose another Cache.Persistent.Path",
            kind_of(&metadata)
        ));
    }
    private::judge("store", path).map_err(|why| why.to_string())?;
    if !may(path, Access::READ_OK | Access::WRITE_OK) {
        return Err(format!(
            "the store {shown} may not be read and written; give it to the agent's user"
        ));
    }
    Ok(metadata.len() > 0)
}

/// Checks that a file may be created at `path`, with the folders that are missing.
fn may_begin(path: &Path) -> Result<(), String> {
    let folder = private::folder(path);
    let existing = folder
        .ancestors()
        .map(|folder| {
            if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            }
        })
        .find(|folder| folder.exists())
        .unwrap_or(folder);
    if existing.is_dir() && may(existing, Access::WRITE_OK | Access::EXEC_OK) {
        let Some(name) = path.file_name() else {
            return Ok(());
        };
        private::conclude(
            "new file",
            path,
            kms_agent_trust::judge_folder_of(&existing.join(name)),
        )
        .map(drop)
        .map_err(|why| why.to_string())
    } else {
        Err(format!(
            "{} cannot be created: {} is not writable; give it to the agent's user",
            path.display(),
            existing.display()
        ))
    }
}

fn may(path: &Path, access: Access) -> bool {
    accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}
