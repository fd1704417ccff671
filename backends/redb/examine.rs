//! What the start will find, without making, changing or locking anything.

use std::fs;
use std::io;
use std::path::Path;

use kms_agent_core::Scope;
use kms_agent_sealed::key::{KeyError, KeySource};
use kms_agent_sealed::private;
use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::store::fault::Fault;
use crate::store::{Inspection, check_distinct, inspect, key_mismatch_message, read_last_scope};

/// Says in a few words what is there; what the agent would refuse, or be without a store for, is an error.
pub(crate) fn examine(path: &Path, key: &KeySource) -> Result<String, String> {
    let mut found = examine_files(path, key)?;
    // Files that are there were found to be trusted by now.
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
                "the store {shown} is damaged ({why}); the agent will set it aside and begin a new one"
            )),
            Err(fault) => Err(format!("the store {shown} cannot be read: {fault:?}")),
        },
        (false, Err(KeyError::Missing(_))) if key.is_ours() => {
            may_begin(path)?;
            if let KeySource::File(key) = key {
                may_begin(key)?;
            }
            Ok(format!("a new store {shown} will be begun, with a new key"))
        }
        (false, Ok(_)) => {
            may_begin(path)?;
            Ok(format!("a new store {shown} will be begun"))
        }
        (_, Err(error)) => Err(error.message().to_owned()),
    }
}

/// The scope that the store was last used with. An agent may be writing to it; what cannot be read is not known.
pub(crate) fn last_scope(path: &Path, key: &KeySource) -> Option<Scope> {
    look(path).ok().filter(|exists| *exists)?;
    read_last_scope(path, &key.load().ok()?)
}

/// Whether there is a store.
fn look(path: &Path) -> Result<bool, String> {
    let shown = path.display();
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found.map_err(|error| format!("the store {shown} cannot be seen: {error}"))?,
    };
    if !metadata.is_file() {
        return Err(format!(
            "the store {shown} is no file; name one in Cache.Persistent.Path"
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

/// Whether a file may be made at `path`, with the folders that are missing.
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
            "{} cannot be made: {} may not be written; give it to the agent's user",
            path.display(),
            existing.display()
        ))
    }
}

fn may(path: &Path, access: Access) -> bool {
    accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}
