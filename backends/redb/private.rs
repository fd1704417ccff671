//! Files and folders that are nobody else's business.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// The folder `path` stands in; the working directory for a bare name.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// The last part of `path` as text, for names derived from it.
pub(crate) fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(OsStr::new(""))
        .to_string_lossy()
        .into_owned()
}

/// Makes the folder `path` stands in, for this user alone; one that exists stays as it is.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder(path))
}

/// Makes a new, removed or renamed entry of the folder of `path` survive a power cut.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// Removes `path`, which need not exist, for good.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(path),
    }
}

/// Why the file `what` at `path` may not be used: others may touch it. The groups of this process are not
/// others; an orchestrator that owns the volume hands files to one of them.
pub(crate) fn exposed(what: &str, path: &Path, metadata: &Metadata) -> Option<String> {
    let to = if metadata.mode() & 0o007 != 0 {
        "others".to_owned()
    } else if metadata.mode() & 0o070 != 0 && !is_own_group(metadata.gid()) {
        format!(
            "the group {}, which this process is no member of",
            metadata.gid()
        )
    } else {
        return None;
    };
    Some(format!(
        "the {what} {} is accessible to {to}; run `chmod 600 {}`",
        path.display(),
        quoted(path)
    ))
}

/// The path as a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    let is_plain = |at: char| at.is_alphanumeric() || "/._-+,:@%=".contains(at);
    if path.chars().all(is_plain) {
        path.into_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

fn is_own_group(group: u32) -> bool {
    rustix::process::getegid().as_raw() == group
        || rustix::process::getgroups()
            .is_ok_and(|groups| groups.iter().any(|own| own.as_raw() == group))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn a_file_for_others_is_exposed_and_one_for_an_own_group_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"").unwrap();
        let verdict = |mode| {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            exposed("key", &path, &fs::metadata(&path).unwrap())
        };
        assert_eq!(verdict(0o600), None);
        assert_eq!(verdict(0o660), None);
        let message = verdict(0o604).unwrap();
        assert!(
            message.contains("others")
                && message.ends_with(&format!("`chmod 600 {}`", path.display())),
            "{message}"
        );
        if chown(&path, None, Some(54_321)).is_ok() {
            assert!(verdict(0o640).unwrap().contains("the group 54321"));
        }
    }

    #[test]
    fn a_path_is_one_word_to_a_shell() {
        for (path, word) in [
            ("/a/b.key", "/a/b.key"),
            ("/a b/$c", "'/a b/$c'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(quoted(Path::new(path)), word);
        }
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
