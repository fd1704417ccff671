//! Location of the store and its key, and operations on the file as a whole.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kms_agent_core::Clock;
use kms_agent_sealed::key::KeySource;
use kms_agent_sealed::private;

use super::medium::Medium;
use super::quarantine;

/// Store, key and medium.
#[derive(Clone, Debug)]
pub(crate) struct StoreLocation {
    pub(crate) path: PathBuf,
    pub(crate) key: KeySource,
    pub(crate) medium: Arc<dyn Medium>,
    /// For the names of quarantined files.
    pub(crate) clock: Arc<dyn Clock>,
}

/// Distinguishes a file from another at the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

impl StoreLocation {
    /// Removes the store's file for good.
    pub(crate) fn remove(&self) -> io::Result<()> {
        private::remove(&self.path)
    }

    /// Checks that the store's file can be written, without changing it.
    pub(crate) fn try_writing(&self) -> io::Result<()> {
        open_file(&self.path, OpenOptions::new().write(true)).map(drop)
    }

    /// Renames the store's file for later analysis. It replaces the file quarantined before.
    pub(crate) fn quarantine(&self, why: &str, damaged: Option<FileId>) -> io::Result<()> {
        if damaged.is_some_and(|damaged| self.file() != Some(damaged)) {
            return Err(io::Error::other(
                "another process put a new store in its place",
            ));
        }
        let Some(target) = quarantine::rename(&self.path, self.clock.wall())? else {
            return Ok(());
        };
        tracing::warn!(
            store.path = %self.path.display(),
            quarantine.path = %target.display(),
            reason = why,
            "The cache's store is damaged; it was quarantined and a new one created"
        );
        Ok(())
    }

    /// Returns the file that exists now.
    pub(crate) fn file(&self) -> Option<FileId> {
        let metadata = fs::symlink_metadata(&self.path).ok()?;
        Some((&metadata).into())
    }

    /// Size of the file; 0 while it does not exist.
    pub(crate) fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Path at which a store is built before it is renamed.
    pub(super) fn build_path(&self) -> PathBuf {
        self.path
            .with_file_name(format!(".{}.new", private::name(&self.path)))
    }

    /// Removes the leftovers of a killed process. No other process has the store open.
    pub(super) fn remove_leftovers(&self) {
        if let Err(error) =
            private::remove(&self.build_path()).and_then(|()| self.key.remove_leftovers())
        {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "Leftovers beside the store and its key could not be removed"
            );
        }
    }
}

/// Explains a store of another key.
pub(crate) fn key_mismatch_message(path: &Path) -> String {
    format!(
        "the store {} was sealed under another key than the one in Cache.Persistent.KeyFile; put that key back, \
         or remove the store to create a new one",
        path.display()
    )
}

pub(crate) fn open_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    options.custom_flags(no_follow).open(path)
}
