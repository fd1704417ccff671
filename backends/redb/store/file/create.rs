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
    /// Puts an empty store in place of the one that is there, and a new key in place of its own.
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

    /// Begins a store where there is none.
    pub(super) fn create(&self, sealer: &Arc<Sealer>) -> Result<Opened, OpenFailure> {
        private::make_folder(&self.path).map_err(out_of_reach)?;
        private::heed(private::judge_folder("store", &self.path))?;
        self.build(sealer, |_| {
            if self.bytes() > 0 {
                // Somebody else was faster.
                return Err(Fault::Locked);
            }
            Ok(())
        })
    }

    /// Puts a store with the same in it, and no room for more, in place of `disk`, which stays open.
    pub(crate) fn rewrite(&self, disk: &Disk, sealer: &Arc<Sealer>) -> Result<Opened, OpenFailure> {
        self.build(sealer, |new| disk.copy_to(new))
    }

    /// Builds a store beside its place and puts it there when `finish` has succeeded with it, so that whoever is
    /// killed meanwhile leaves nothing that looks like a damaged one.
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
        // Also against somebody else who builds one here; it is the lock that redb takes again.
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
                // What is left of it takes room, and is of no use.
                let _ = fs::remove_file(&built);
                Err(self.failure(fault))
            }
        }
    }

    /// The key for a store that is yet to be begun, made if there is none.
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
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Sealer::new(&self.key.load()?)
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Arc::new(sealer))
    }
}

/// Opens the file at `path`, which a process that was killed may have left, or makes it for this user alone.
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

/// The folder may not be written. A confined process cannot get at one that was made after it began.
fn out_of_reach(error: io::Error) -> OpenFailure {
    let mut failure = Failure::from(error);
    if failure.word == "permission_denied" {
        failure.cause.push_str(
            "; let the agent's user write its folder, and if that was removed or made anew, restart the agent",
        );
    }
    OpenFailure::Failed(failure)
}
