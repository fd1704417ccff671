//! The only place that reads files.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kms_agent_core::run_blocking;
use kms_agent_trust::{DistrustReason, Kind, Verdict};
use zeroize::Zeroizing;

/// Interval between looks at files that other programs may rewrite.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Reads a whole file of at most `limit` bytes, off the runtime's threads, into a block that is wiped.
pub(crate) async fn read(path: PathBuf, limit: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let (bytes, doubt) = run_blocking(move || read_judged(&path, limit))
        .await
        .map_err(|error| FileError::Other(error.to_string()))??;
    if let Some(doubt) = doubt.filter(|doubt| kms_agent_trust::is_new_warning(doubt)) {
        tracing::warn!(cause = doubt, "A file is not as safe as it should be");
    }
    Ok(bytes)
}

/// The same at once, for when there is no runtime yet, and without a word in the log, which may not be there either.
pub(crate) fn read_now(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read_judged(path, limit).map(|(bytes, _)| bytes)
}

/// Reads the file, and says what the operator should know about it. One that others may change is not read.
fn read_judged(path: &Path, limit: usize) -> Result<Judged, FileError> {
    let failed = |error: io::Error| FileError::of(path, &error);
    let opened = kms_agent_trust::open(path, Kind::Setting).map_err(failed)?;
    let file = opened.file;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(FileError::NoFile);
    }
    let doubt = match opened.verdict {
        Verdict::Refused(refusal) => return Err(FileError::Untrusted(refusal)),
        Verdict::Warned(doubt) => Some(doubt),
        Verdict::Trusted => None,
    };
    // Room for all that may come, so that the block is never outgrown.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
    let wanted = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(wanted).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        return Err(FileError::Other(format!("is larger than {limit} bytes")));
    }
    Ok((bytes, doubt))
}

type Judged = (Zeroizing<Vec<u8>>, Option<String>);

/// Reason not to trust the file at `path`, if it exists and others may change it.
pub(crate) fn distrust(path: &Path) -> Option<DistrustReason> {
    let verdict = kms_agent_trust::judge(path, Kind::Setting).ok()?;
    verdict.refusal().cloned()
}

/// Whether nothing at all stands at `path`. What cannot be seen, and a link that leads nowhere, is something.
pub(crate) async fn is_absent(path: PathBuf) -> bool {
    // What could not be looked at counts as there.
    run_blocking(move || is_absent_now(&path))
        .await
        .unwrap_or(false)
}

/// The same at once.
pub(crate) fn is_absent_now(path: &Path) -> bool {
    let Err(error) = path.symlink_metadata() else {
        return false;
    };
    match error.kind() {
        // A folder above may be a link whose target is yet to come.
        io::ErrorKind::NotFound => path
            .ancestors()
            .skip(1)
            .find(|above| above.symlink_metadata().is_ok())
            .is_none_or(|above| above.metadata().is_ok()),
        // Nothing can stand below what is no folder, such as the home /dev/null.
        io::ErrorKind::NotADirectory => true,
        _ => false,
    }
}

/// Reason why a file cannot be read. The text follows "cannot be read: ".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileError {
    /// There is none, or a link leads nowhere.
    Missing,
    /// Its permissions, or those of a folder above it.
    Forbidden,
    /// Its permissions would do, but the process has confined itself to other folders.
    OutOfReach,
    /// A folder, a pipe or a device.
    NoFile,
    /// Others may change it.
    Untrusted(DistrustReason),
    Other(String),
}

impl FileError {
    fn of(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing,
            io::ErrorKind::PermissionDenied if is_permitted(path) => Self::OutOfReach,
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            _ => Self::Other(error.to_string()),
        }
    }

    /// Remedy, if it does not depend on the purpose of the file.
    pub(crate) fn remedy(&self) -> Option<Cow<'static, str>> {
        let remedy = match self {
            Self::Forbidden => {
                "let the agent's user read it and enter the folders above it (chown, chmod)"
            }
            Self::OutOfReach => "restart the agent",
            Self::NoFile => "put a regular file in its place",
            Self::Untrusted(refusal) => return Some(format!("run `{}`", refusal.command).into()),
            Self::Missing | Self::Other(_) => return None,
        };
        Some(remedy.into())
    }
}

/// Whether the permissions of `path` are right. What confines the process shuts files, and does not hide that.
#[cfg(unix)]
fn is_permitted(path: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};

    accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS).is_ok()
}

#[cfg(windows)]
fn is_permitted(_path: &Path) -> bool {
    false
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "there is no such file",
            Self::Forbidden => "permission denied",
            Self::OutOfReach => {
                "it is outside the folders that the process may open since its start"
            }
            Self::NoFile => "it is not a regular file",
            Self::Untrusted(refusal) => &refusal.reason,
            Self::Other(what) => what,
        })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode};

    use super::*;

    #[tokio::test]
    async fn a_file_is_read_up_to_its_limit_and_not_beyond() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"12345").expect("written");
        let path = file.path().to_owned();
        assert_eq!(*read(path.clone(), 5).await.expect("read"), b"12345");
        assert_eq!(
            read(path, 4).await,
            Err(FileError::Other("is larger than 4 bytes".to_owned()))
        );
        assert_eq!(
            read("/no/such/file".into(), 4).await,
            Err(FileError::Missing)
        );
    }

    #[test]
    fn a_path_that_is_not_a_file_does_not_block() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/zero")] {
            assert_eq!(read_now(path, 4), Err(FileError::NoFile), "{path:?}");
        }
    }

    #[test]
    fn only_what_is_certainly_not_there_is_absent() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::File::create_new(path("file")).expect("a file");
        symlink("nowhere", path("link")).expect("a link");
        symlink("file", path("good")).expect("a link");
        for (name, absent) in [
            ("file", false),
            ("good", false),
            ("link", false),
            ("link/below/it", false),
            ("none", true),
            ("none/below/it", true),
            ("file/below", true),
        ] {
            assert_eq!(is_absent_now(&path(name)), absent, "{name}");
        }
        assert!(is_absent_now(Path::new("no-such-file-here")));
    }
}
