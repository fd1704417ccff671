//! One rule for every file that decides something: token, key, store, config, CA and profile files.
//!
//! The rule is that of `StrictModes` in OpenSSH. A file is trusted when it belongs to root or to the user of this
//! process, when no other user and no group of strangers may write it, and when the same holds for each folder
//! above it and for each folder that holds a symbolic link on the way. A path is walked one component at a time by
//! file descriptor, so what was judged is what is opened.
//!
//! Exceptions, in the order in which they are looked at:
//!
//! - What lies on a read-only mount counts as not writable, regardless of its owner.
//! - A sticky folder that others may write is accepted while what the path takes from it belongs to root or to this
//!   user.
//! - A folder that is a mount point, belongs to root and is open to all (`emptyDir` of Kubernetes) is accepted with
//!   a warning, and the folders above it are not looked at.
//! - An owner that this user namespace cannot name is accepted with a warning.
//! - A group-writable folder or file is accepted where the group is one of this process, or root's own.
//!
//! ACL entries for strangers count as the ACL's mask. On systems other than Unix everything is trusted: the access
//! list of the folder decides there.

#[cfg(unix)]
mod acl;
#[cfg(unix)]
mod identity;
#[cfg(unix)]
mod judge;
#[cfg(not(unix))]
mod open_to_all;
#[cfg(unix)]
mod place;
#[cfg(unix)]
mod walk;
mod warned;

use std::fs::File;
use std::path::{Path, PathBuf};

#[cfg(not(unix))]
pub use self::open_to_all::{FilePlace, judge, judge_folder_of, make_folder, open};
#[cfg(unix)]
pub use self::place::{FilePlace, make_folder};
#[cfg(unix)]
pub use self::walk::{judge, judge_folder_of, open};
pub use self::warned::is_new_warning;

/// Returns the folder of `path`, which is the working directory for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Strictness of the judgement of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A cache key or a store: others may neither read nor write it.
    Secret,
    /// A token: it may belong to any user, and one that every user may read is warned of.
    Token,
    /// A config, CA, profile or credential token file: others may not write it.
    Setting,
}

/// The result of judging a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Only root and this user decide what the file holds.
    Trusted,
    /// Accepted; the text says what the operator should know.
    Warned(String),
    /// Not to be used.
    Refused(DistrustReason),
}

impl Verdict {
    /// The refusal, if it is one.
    pub fn refusal(&self) -> Option<&DistrustReason> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Trusted | Self::Warned(_) => None,
        }
    }

    /// The warning, if it is one.
    pub fn warning(&self) -> Option<&str> {
        match self {
            Self::Warned(warning) => Some(warning),
            Self::Trusted | Self::Refused(_) => None,
        }
    }
}

/// The reason why a path is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistrustReason {
    /// A clause such as `/etc/kms is writable for others`.
    pub reason: String,
    /// The command that fixes it.
    pub command: String,
}

impl std::fmt::Display for DistrustReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; run `{}`", self.reason, self.command)
    }
}

/// A file that is open, and the verdict on it and on the way to it.
#[derive(Debug)]
pub struct OpenedFile {
    /// The file, opened for reading without waiting for a writer. It need not be a regular file.
    pub file: File,
    /// The verdict. A refused file is open all the same, so that callers can tell both faults.
    pub verdict: Verdict,
    /// The path without symbolic links.
    pub path: PathBuf,
}

/// A file that exists at a [`FilePlace`]. On systems other than Unix user and group are 0 and the mode is 0600.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExistingFile {
    /// The user it belongs to.
    pub user: u32,
    /// The group it belongs to.
    pub group: u32,
    /// The permission bits.
    pub mode: u32,
    /// It is a regular file.
    pub is_file: bool,
    /// It is a symbolic link.
    pub is_link: bool,
    /// It has more than one name.
    pub has_more_names: bool,
    /// A stranger may have put it there: the folder is writable for others, and the file belongs neither to root, to
    /// this user nor to the folder's owner. Never so on systems other than Unix.
    pub is_planted: bool,
}
