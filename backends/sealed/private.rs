//! Files and folders that only the agent's user may access.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

pub use kms_agent_trust::folder_of as folder;
use kms_agent_trust::{Kind, Verdict};

/// Last part of `path` as text, for names derived from it.
pub fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(OsStr::new(""))
        .to_string_lossy()
        .into_owned()
}

/// Returns the absolute path of a file; the path as it is where the working directory was removed.
pub fn in_full(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Creates the folder of `path` for this user alone; an existing folder stays as it is. Links that other users could
/// have planted are not followed.
pub fn make_folder(path: &Path) -> io::Result<()> {
    kms_agent_trust::make_folder(folder(path), 0o700)
}

/// Syncs the folder of `path`, so that new, removed and renamed files survive a power cut.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// Removes `path` durably; it need not exist.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(path),
    }
}

/// Reason that a file may not be used.
#[derive(Debug)]
pub enum Distrust {
    /// Other users may access it. The text has the remedy.
    Refused(String),
    /// The file could not be judged.
    Failed(io::Error),
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(message) => f.write_str(message),
            Self::Failed(error) => write!(f, "the permissions of a file cannot be read: {error}"),
        }
    }
}

/// Judges the existing file `what` at `path`: other users may neither read nor write it, nor write a folder above it.
/// The groups of this process are allowed, since an orchestrator gives files to one of them. The error has the remedy;
/// a doubt about an accepted file is returned.
pub fn judge(what: &str, path: &Path) -> Result<Option<String>, Distrust> {
    conclude(what, path, kms_agent_trust::judge(path, Kind::Secret))
}

/// Judges the folder in which the file `what` will be created.
pub fn judge_folder(what: &str, path: &Path) -> Result<Option<String>, Distrust> {
    conclude(what, path, kms_agent_trust::judge_folder_of(path))
}

/// Turns the `verdict` on a file into its doubt, or into an error.
pub fn conclude(
    what: &str,
    path: &Path,
    verdict: io::Result<Verdict>,
) -> Result<Option<String>, Distrust> {
    let shown = path.display();
    match verdict {
        Ok(Verdict::Trusted) => Ok(None),
        Ok(Verdict::Warned(warning)) => Ok(Some(format!("the {what} {shown}: {warning}"))),
        Ok(Verdict::Refused(refusal)) => Err(Distrust::Refused(format!(
            "the {what} {shown} is not used: {refusal}"
        ))),
        // A missing file cannot be used by other users.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Distrust::Failed(error)),
    }
}

/// Logs the doubt of a judgement, each once.
pub fn heed(judged: Result<Option<String>, Distrust>) -> Result<(), Distrust> {
    if let Some(doubt) = judged?
        && kms_agent_trust::is_new_warning(&doubt)
    {
        tracing::warn!(cause = doubt, "A file is not as safe as it should be");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    use super::*;

    #[test]
    fn a_file_for_others_is_refused_and_one_for_an_own_group_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"").unwrap();
        let verdict = |mode| {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            judge("key", &path).map_err(|why| why.to_string())
        };
        assert_eq!(verdict(0o600), Ok(None));
        assert_eq!(verdict(0o660), Ok(None));
        let message = verdict(0o604).unwrap_err();
        assert!(
            message.contains("others")
                && message.ends_with(&format!("`chmod 600 {}`", path.display())),
            "{message}"
        );
        if chown(&path, None, Some(54_321)).is_ok() {
            assert!(verdict(0o640).unwrap_err().contains("the group 54321"));
            chown(&path, None, Some(0)).unwrap();
        }
        assert_eq!(verdict(0o600), Ok(None));
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let message = judge("key", &path).unwrap_err().to_string();
        assert!(message.contains("chmod o-w"), "{message}");
        let of_folder = judge_folder("key", &path).unwrap_err();
        assert_eq!(of_folder.to_string(), message);
    }

    #[test]
    fn a_missing_folder_is_made_for_this_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/file");
        make_folder(&path).unwrap();
        let mode = fs::metadata(path.parent().unwrap()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
