//! Location of the store and its key, and what is done with the file as a whole.

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

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct StoreLocation {
    pub(crate) path: PathBuf,
    pub(crate) key: KeySource,
    pub(crate) medium: Arc<dyn Medium>,
    /// For the names of files set aside.
    pub(crate) clock: Arc<dyn Clock>,
}

/// Tells a file from another that takes its place.
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

    /// Whether the store's file can be written, without touching it.
    pub(crate) fn try_writing(&self) -> io::Result<()> {
        open_file(&self.path, OpenOptions::new().write(true)).map(drop)
    }

    /// Renames the store's file, so that somebody may look at it, in place of the one set aside before.
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
            set.aside = %target.display(),
            reason = why,
            "The cache's store is damaged; it was set aside and a new one begun"
        );
        Ok(())
    }

    /// The file that is there now.
    pub(crate) fn file(&self) -> Option<FileId> {
        let metadata = fs::symlink_metadata(&self.path).ok()?;
        Some((&metadata).into())
    }

    /// The file's size, 0 while there is none.
    pub(crate) fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Where a store is built before it is put in its place.
    pub(super) fn build_path(&self) -> PathBuf {
        self.path
            .with_file_name(format!(".{}.new", private::name(&self.path)))
    }

    /// Removes what a process that was killed left behind. Nobody else has the store open.
    pub(super) fn remove_leftovers(&self) {
        if let Err(error) =
            private::remove(&self.build_path()).and_then(|()| self.key.remove_leftovers())
        {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "What is left beside the store and its key could not be removed"
            );
        }
    }
}

/// What to do about a store of another key.
pub(crate) fn key_mismatch_message(path: &Path) -> String {
    format!(
        "the store {} was sealed under another key than the one in Cache.Persistent.KeyFile; put that key back, \
         or remove the store to begin a new one",
        path.display()
    )
}

pub(crate) fn open_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    options.custom_flags(no_follow).open(path)
}
