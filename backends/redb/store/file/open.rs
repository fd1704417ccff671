//! Opening of the store that is there, and the reasons that it cannot be opened.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;

use kms_agent_core::Resumed;
use kms_agent_sealed::key::{KeyError, RootKey};
use kms_agent_sealed::private::{self, Distrust};
use kms_agent_sealed::record::decode_resumed;
use kms_agent_sealed::seal::{RESUMED, Sealer};

use super::disk::{Contents, Disk};
use super::location::{FileId, StoreLocation, key_mismatch_message, open_file};
use crate::store::fault::{Failure, Fault};

/// A store that is open.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) disk: Disk,
    pub(crate) file: FileId,
    pub(crate) sealer: Arc<Sealer>,
    /// What the process before left word of.
    pub(crate) resumed: Option<Resumed>,
    pub(crate) records: u64,
    /// It was just begun.
    pub(crate) is_new: bool,
}

/// Why there is no open store.
#[derive(Debug)]
pub(crate) enum OpenFailure {
    /// For the operator to mend before the agent may start.
    Refused(String),
    /// The key is not the store's. The store is as it was.
    Barred { word: &'static str, message: String },
    /// The medium failed; it may come back.
    Failed(Failure),
}

/// The keys that the agent has before it opens a store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keys<'a> {
    /// Those of the store it had open.
    Known(&'a Arc<Sealer>),
    /// Drawn anew, for a store that has no key yet.
    Drawn(&'a RootKey),
}

impl StoreLocation {
    /// Opens the store, begins one where there is none, and sets a damaged one aside.
    pub(crate) fn open(&self, keys: Keys<'_>) -> Result<Opened, OpenFailure> {
        let Some(Existing {
            file,
            metadata,
            read_only,
        }) = self.existing()?
        else {
            return self.create(&self.key_for_new(keys)?);
        };
        let sealer = match keys {
            Keys::Known(sealer) => Arc::clone(sealer),
            Keys::Drawn(_) => Arc::new(Sealer::new(&self.key.load()?)),
        };
        match self.open_file(file, &sealer, read_only) {
            Ok((disk, contents)) => {
                if disk.read_only_cause().is_none() {
                    self.remove_leftovers();
                }
                Ok(opened(disk, contents, &sealer, &metadata))
            }
            Err(Fault::Damaged(why)) => {
                self.quarantine(&why, Some((&metadata).into()))
                    .map_err(failed)?;
                self.create(&sealer)
            }
            Err(fault) => Err(self.failure(fault)),
        }
    }

    /// The store's file, unless there is nothing in it.
    fn existing(&self) -> Result<Option<Existing>, OpenFailure> {
        let mut options = OpenOptions::new();
        let mut read_only = None;
        let opened = match open_file(&self.path, options.read(true).write(true)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // What it holds can be answered all the same.
            Err(error) if is_unwritable(&error) => {
                let readable = open_file(&self.path, options.write(false));
                read_only = Some(error.into());
                readable
            }
            opened => opened,
        };
        let (file, metadata) = check(&self.path, opened)?;
        if metadata.len() == 0 {
            tracing::warn!(
                store.path = %self.path.display(),
                "The cache's store is an empty file; a new one is begun in its place"
            );
        }
        Ok((metadata.len() > 0).then_some(Existing {
            file,
            metadata,
            read_only,
        }))
    }

    pub(super) fn open_file(
        &self,
        file: File,
        sealer: &Sealer,
        read_only: Option<Failure>,
    ) -> Result<(Disk, Contents), Fault> {
        Disk::open(self.medium.open(file)?, sealer, read_only)
    }

    pub(super) fn failure(&self, fault: Fault) -> OpenFailure {
        let path = self.path.display();
        match fault {
            Fault::Failed(failure) => OpenFailure::Failed(failure),
            Fault::Damaged(cause) => OpenFailure::Failed(Failure {
                word: "damaged",
                cause,
            }),
            Fault::Locked | Fault::Gone => {
                OpenFailure::Refused(format!("the store {path} is in use by another process"))
            }
            Fault::OtherKey => OpenFailure::Barred {
                word: "key_mismatch",
                message: key_mismatch_message(&self.path),
            },
        }
    }
}

/// A store's file that is open.
struct Existing {
    file: File,
    metadata: Metadata,
    /// What keeps it from being written, while it can be read.
    read_only: Option<Failure>,
}

fn is_unwritable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

impl From<Distrust> for OpenFailure {
    fn from(distrust: Distrust) -> Self {
        match distrust {
            Distrust::Refused(message) => Self::Refused(message),
            Distrust::Failed(error) => failed(error),
        }
    }
}

impl From<KeyError> for OpenFailure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Exposed(message) => Self::Refused(message),
            other => Self::Barred {
                word: other.word(),
                message: other.message().to_owned(),
            },
        }
    }
}

/// Refuses what only the operator can mend.
pub(super) fn check(
    path: &Path,
    opened: io::Result<File>,
) -> Result<(File, Metadata), OpenFailure> {
    const LOOP: i32 = rustix::io::Errno::LOOP.raw_os_error();
    let refused = |what: &str| {
        OpenFailure::Refused(format!(
            "the store {} is {what}; name a file in Cache.Persistent.Path",
            path.display()
        ))
    };
    if opened.is_err()
        && let Err(Distrust::Refused(message)) = private::judge("store", path)
    {
        // A store that belongs to another user may be unreadable too; who it belongs to is the worse fault.
        return Err(OpenFailure::Refused(message));
    }
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(LOOP) => refused("a symbolic link"),
        _ if error.kind() == io::ErrorKind::IsADirectory => refused("a folder"),
        _ => failed(error),
    })?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(refused("no file"));
    }
    private::heed(private::judge("store", path))?;
    Ok((file, metadata))
}

pub(super) fn failed(error: io::Error) -> OpenFailure {
    OpenFailure::Failed(error.into())
}

/// What an earlier process left word of.
pub(super) fn resumed(record: &[u8], sealer: &Sealer) -> Option<Resumed> {
    let bytes = sealer.open_header(&RESUMED, record).ok()?;
    decode_resumed(&bytes)
}

pub(super) fn opened(
    disk: Disk,
    contents: Contents,
    sealer: &Arc<Sealer>,
    file: &Metadata,
) -> Opened {
    // What cannot be read is not known.
    let resumed = contents.resumed.and_then(|record| resumed(&record, sealer));
    Opened {
        disk,
        file: file.into(),
        sealer: Arc::clone(sealer),
        resumed,
        records: contents.records,
        is_new: contents.is_new,
    }
}
