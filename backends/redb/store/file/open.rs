//! Opening of an existing store, and the reasons for a failure.

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

/// Open store.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) disk: Disk,
    pub(crate) file: FileId,
    pub(crate) sealer: Arc<Sealer>,
    /// State of the previous process.
    pub(crate) resumed: Option<Resumed>,
    pub(crate) records: u64,
    /// Just created.
    pub(crate) is_new: bool,
}

/// Reason that no store is open.
#[derive(Debug)]
pub(crate) enum OpenFailure {
    /// The operator has to fix it before the agent may start.
    Refused(String),
    /// The key does not fit the store, which is left as it was.
    Barred { word: &'static str, message: String },
    /// The medium failed; it may recover.
    Failed(Failure),
}

/// Key that the agent has before it opens a store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keys<'a> {
    /// Sealer of the store that was open before.
    Known(&'a Arc<Sealer>),
    /// New random key, for a store that has none yet.
    Drawn(&'a RootKey),
}

impl StoreLocation {
    /// Opens the store. Creates one where the file does not exist, and in place of a damaged one, which is quarantined.
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

    /// Opens the store's file. `None`: it is missing or empty.
    fn existing(&self) -> Result<Option<Existing>, OpenFailure> {
        let mut options = OpenOptions::new();
        let mut read_only = None;
        let opened = match open_file(&self.path, options.read(true).write(true)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // Its entries can still be served.
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
                "The cache's store is an empty file; creating a new one"
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

/// Open file of a store.
struct Existing {
    file: File,
    metadata: Metadata,
    /// Reason that the file cannot be written, while it can be read.
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

/// Refuses a file that only the operator can fix.
pub(super) fn check(
    path: &Path,
    opened: io::Result<File>,
) -> Result<(File, Metadata), OpenFailure> {
    const LOOP: i32 = rustix::io::Errno::LOOP.raw_os_error();
    let refused = |what: &str| {
        OpenFailure::Refused(format!(
            "the store {} is {what}; choose another Cache.Persistent.Path",
            path.display()
        ))
    };
    let file = match opened {
        Err(error) if error.raw_os_error() == Some(LOOP) => return Err(refused("a symbolic link")),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            return Err(refused("a folder"));
        }
        Err(error) => {
            // The store of another user may be unreadable too; its owner is the worse fault.
            if let Err(Distrust::Refused(message)) = private::judge("store", path) {
                return Err(OpenFailure::Refused(message));
            }
            return Err(failed(error));
        }
        Ok(file) => file,
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(refused(kind_of(&metadata)));
    }
    private::heed(private::judge("store", path))?;
    Ok((file, metadata))
}

/// Names the kind of something that is not a regular file.
pub(crate) fn kind_of(metadata: &Metadata) -> &'static str {
    if metadata.is_dir() {
        "a folder"
    } else if metadata.is_symlink() {
        "a symbolic link"
    } else {
        "not a file"
    }
}

pub(super) fn failed(error: io::Error) -> OpenFailure {
    OpenFailure::Failed(error.into())
}

/// Opens the note of the previous process.
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
    // A note that does not open counts as missing.
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
