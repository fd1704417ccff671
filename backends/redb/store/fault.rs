//! Faults of the store, by the response to each.

use std::any::Any;
use std::io;

use kms_agent_core::panic;
use redb::StorageError;

/// A call into the store that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The file is not a store, or not one any more. Quarantine it.
    Damaged(String),
    /// The medium failed. Reopen the store later.
    Failed(Failure),
    /// The file was removed or replaced.
    Gone,
    /// Another process has it open.
    Locked,
    /// The store was sealed under another key. Do not touch it.
    OtherKey,
}

/// Failure of the medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// For metrics and health checks.
    pub(crate) word: &'static str,
    /// For the log.
    pub(crate) cause: String,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let word = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "disk_full",
            io::ErrorKind::FileTooLarge => "file_too_large",
            io::ErrorKind::ReadOnlyFilesystem => "read_only",
            io::ErrorKind::PermissionDenied => "permission_denied",
            _ => "io_error",
        };
        Self {
            word,
            cause: error.to_string(),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The medium worked, and redb found the data invalid.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Failed(error.into()),
        }
    }
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => error.into(),
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::Locked,
            redb::Error::Corrupted(_)
            | redb::Error::RepairAborted
            | redb::Error::UpgradeRequired(_)
            | redb::Error::TableDoesNotExist(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. } => Self::Damaged(error.to_string()),
            other => Self::Failed(Failure {
                word: "io_error",
                cause: other.to_string(),
            }),
        }
    }
}

macro_rules! fault_from {
    ($($error:ty),*) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        })*
    };
}
fault_from!(
    StorageError,
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::CommitError,
    redb::CompactionError,
    redb::SetDurabilityError
);

/// Calls into redb and turns a panic into a fault: damaged pages make redb panic.
pub(crate) fn contained<T>(call: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    panic::contained(call).unwrap_or_else(|panic| Err(Fault::Damaged(text_of(&*panic))))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_not_damage_and_a_cut_file_is() {
        let fault = Fault::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(
            fault,
            Fault::Failed(Failure {
                word: "disk_full",
                ..
            })
        ));
        let fault = Fault::from(StorageError::Io(io::ErrorKind::UnexpectedEof.into()));
        assert!(matches!(fault, Fault::Damaged(_)));
        let fault = Fault::from(StorageError::PreviousIo);
        assert!(matches!(
            fault,
            Fault::Failed(Failure {
                word: "io_error",
                ..
            })
        ));
    }

    #[test]
    fn a_panic_is_damage() {
        let fault = contained::<()>(|| panic!("page {}", 7)).unwrap_err();
        assert_eq!(fault, Fault::Damaged("panicked: page 7".to_owned()));
    }
}
