use std::fmt;

use kms_agent_sealed::seal::CannotSeal;
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Failure of the server or of the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) kind: TroubleKind,
    /// Error of the client library or server. Holds neither keys nor values.
    pub(crate) cause: String,
}

/// Kinds of trouble, each with its word for status and log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TroubleKind {
    /// No connection, or no answer in time.
    Unreachable,
    /// The login was refused.
    LoginRefused,
    /// The password or CA file cannot be read.
    FileUnreadable,
    /// The login may not use a command or key.
    PermissionDenied,
    /// The server takes no writes: out of memory.
    Full,
    /// The server is a replica, or is configured to take no writes.
    ReadOnly,
    /// The server is loading its data or has no primary.
    Loading,
    /// The key of the fleet is not there.
    KeyMissing,
    /// KMS makes or decrypts no data key.
    DataKeyUnavailable,
    /// The data key of the fleet is another.
    KeyChanged,
    /// Another agent has begun a new epoch.
    EpochChanged,
    /// Any other error.
    Failing,
}

impl TroubleKind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::LoginRefused => "login_refused",
            Self::FileUnreadable => "file_unreadable",
            Self::PermissionDenied => "permission_denied",
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Loading => "loading",
            Self::KeyMissing => "key_missing",
            Self::DataKeyUnavailable => "data_key_unavailable",
            Self::KeyChanged => "key_changed",
            Self::EpochChanged => "epoch_changed",
            Self::Failing => "failing",
        }
    }

    /// Returns what an operator does about it.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Unreachable => "check that the server runs and that Cache.Redis.Url names it",
            Self::LoginRefused => "check Cache.Redis.UserName and PasswordFile",
            Self::FileUnreadable => "let the agent's user read the file",
            Self::PermissionDenied => {
                "grant the user the ACL rule in the README of the Redis backend"
            }
            Self::Full => {
                "raise the server's maxmemory or set an eviction policy such as volatile-lru"
            }
            Self::ReadOnly => "let Cache.Redis.Url name the primary",
            Self::Loading => "wait until the server has loaded its data",
            Self::KeyMissing => "write the key with `key PATH` and distribute it to every agent",
            Self::DataKeyUnavailable => {
                "allow the identity kms:GenerateDataKey and kms:Decrypt on Cache.Redis.KmsKeyId"
            }
            Self::KeyChanged | Self::EpochChanged => "no action is needed",
            Self::Failing => "look at the server's log",
        }
    }
}

impl Trouble {
    pub(crate) fn new(kind: TroubleKind, cause: impl Into<String>) -> Self {
        Self {
            kind,
            cause: cause.into(),
        }
    }

    pub(crate) fn timed_out() -> Self {
        Self::new(TroubleKind::Unreachable, "no answer in time")
    }

    pub(crate) fn unexpected(answer: &str) -> Self {
        Self::new(
            TroubleKind::Failing,
            format!("unexpected answer to {answer}"),
        )
    }
}

impl From<CannotSeal> for Trouble {
    fn from(error: CannotSeal) -> Self {
        Self::new(TroubleKind::Failing, error.to_string())
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        let code = error.code().unwrap_or_default();
        let kind = match (error.kind(), code) {
            (_, "OOM") => TroubleKind::Full,
            (_, "NOAUTH" | "WRONGPASS") | (ErrorKind::AuthenticationFailed, _) => {
                TroubleKind::LoginRefused
            }
            (_, "NOPERM") => TroubleKind::PermissionDenied,
            (ErrorKind::Server(ServerErrorKind::ReadOnly), _) | (_, "READONLY") => {
                TroubleKind::ReadOnly
            }
            (ErrorKind::Server(ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown), _) => {
                TroubleKind::Loading
            }
            (ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::Parse, _) => {
                TroubleKind::Failing
            }
            _ => TroubleKind::Unreachable,
        };
        Self::new(kind, error.to_string())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}
