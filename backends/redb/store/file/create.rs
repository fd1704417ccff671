//! Creation of a store: a new one, an empty one in place of another, or a compact copy.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use kms_agent_sealed::key::{KeyError, RootKey};
use kms_agent_sealed::private;
use kms_agent_sealed::seal::Sealer;

use super::disk::Disk;
use super::location::{StoreLocation, open_file};
use super::open::{Keys, OpenFailure, Opened, check, failed, opened};
use crate::store::fault::{Failure, Fault};

impl StoreLocation {
    /// Replaces the store by an empty one, and its key by a new one.
    pub(crate) fn replace(&self, sealer: &Arc<Sealer>) -> Result<Opened, OpenFailure> {
        self.remove().map_err(failed)?;
        let sealer = match self.replace_key() {
            Ok(Some(sealer)) => &Arc::new(sealer),
            Ok(None) => sealer,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "The cache was purged, but its key could not be replaced and stays in use"
                );
                sealer
            }
        };
        self.create(sealer)
    }

    fn replace_key(&self) -> io::Result<Option<Sealer>> {
        if !self.key.is_ours() {
            tracing::warn!(
                "The cache was purged, but its key is a credential, which the agent cannot replace; it stays in use"
            );
            return Ok(None);
        }
        let key = RootKey::random()?;
        self.key.replace(&key)?;
        Ok(Some(Sealer::new(&key)))
    }

    /// Creates a store where the file does not exist.
    pub(super) fn create(&self, sealer: &Arc<Sealer>) -> Result<Opened, OpenFailure> {
        private::make_folder(&self.path).map_err(out_of_reach)?;
        private::heed(private::judge_folder("store", &self.path))?;
        self.build(sealer, |_| {
            if self.bytes() > 0 {
                // Another process was faster.
                return Err(Fault::Locked);
            }
            Ok(())
        })
    }

    /// Replaces the file by a compact copy of `disk`, which stays open.
    pub(crate) fn rewrite(&self, disk: &Disk, sealer: &Arc<Sealer>) -> Result<Opened, OpenFailure> {
        self.build(sealer, |new| disk.copy_to(new))
    }

    /// Builds a store under another name and renames it once `finish` has succeeded, so that a process that is killed
    /// meanwhile leaves nothing that looks like a damaged store.
    fn build(
        &self,
        sealer: &Arc<Sealer>,
        finish: impl FnOnce(&Disk) -> Result<(), Fault>,
    ) -> Result<Opened, OpenFailure> {
        let built = self.build_path();
        let made = open_or_make(&built);
        if let Err(error) = &made
            && error.kind() == io::ErrorKind::PermissionDenied
        {
            return Err(out_of_reach(error.kind().into()));
        }
        let (file, metadata) = check(&built, made)?;
        // Also keeps out another process that builds a store here; redb takes the same lock again.
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(self.failure(Fault::Locked)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let placed = file.set_len(0).map_err(Fault::from).and_then(|()| {
            let (disk, contents) = self.open_file(file, sealer, None)?;
            finish(&disk)?;
            fs::rename(&built, &self.path)?;
            private::sync_folder(&self.path)?;
            Ok((disk, contents))
        });
        match placed {
            Ok((disk, contents)) => {
                self.remove_leftovers();
                Ok(opened(disk, contents, sealer, &metadata))
            }
            Err(fault) => {
                // The unfinished file only takes space.
                let _ = fs::remove_file(&built);
                Err(self.failure(fault))
            }
        }
    }

    /// Returns the key for a new store, and creates it if it does not exist.
    pub(super) fn key_for_new(&self, keys: Keys<'_>) -> Result<Arc<Sealer>, OpenFailure> {
        match self.key.load() {
            Err(KeyError::Missing(_)) if self.key.is_ours() => match keys {
                Keys::Drawn(key) => self.make(key),
                Keys::Known(_) => self.make(&RootKey::random().map_err(failed)?),
            },
            loaded => Ok(Arc::new(Sealer::new(&loaded?))),
        }
    }

    fn make(&self, key: &RootKey) -> Result<Arc<Sealer>, OpenFailure> {
        self.key.prepare_folder()?;
        let sealer = match self.key.make(key) {
            Ok(()) => Sealer::new(key),
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Sealer::new(&self.key.load()?)
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Arc::new(sealer))
    }
}

/// Opens the file at `path`, which a killed process may have left, or creates it for this user alone.
fn open_or_make(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match open_file(path, &mut options) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    options.create_new(true).mode(0o600);
    match open_file(path, &mut options) {
        // Another process was faster; its lock decides.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options.create_new(false);
            open_file(path, &mut options)
        }
        made => made,
    }
}

/// Describes a folder that cannot be written. A confined process cannot reach a folder created after its startup.
fn out_of_reach(error: io::Error) -> OpenFailure {
    let mut failure = Failure::from(error);
    if failure.word == "permission_denied" {
        failure.cause.push_str(
            "; let the agent's user write its folder, and if that was removed or created again, restart the agent",
        );
    }
    OpenFailure::Failed(failure)
}
