//! Test of files with the rights of later.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use super::harden::Warnings;
use super::reach::Reach;
use crate::config::LogTarget;
use crate::exit::Failure;
use crate::platform;

/// Returns warnings about files that a reload, a rotation of the log or a renewal of credentials could not open.
pub(crate) fn rehearse(reach: &Reach, log: &LogTarget) -> Warnings {
    let mut warnings = Warnings::new();
    for file in reach.files() {
        if is_forbidden(file) {
            warnings.push(format!(
                "{} cannot be read: permission denied{}; let the agent's user read it and enter the folders above it \
                 (chown, chmod)",
                file.display(),
                of_others()
            ));
        }
    }
    if let LogTarget::Folder(folder) = log
        && folder.is_dir()
        && let Err(error) = platform::may_make_files(folder)
    {
        warnings.push(format!(
            "the log cannot be rotated: no file can be created in {}: {error}{}",
            folder.display(),
            of_others()
        ));
    }
    warnings
}

/// Explains a `failure` with the token file at `path` to operators who expect root to open every file.
pub(crate) fn explain(failure: Failure, path: Option<&Path>) -> Failure {
    if of_others().is_empty() || !path.is_some_and(is_forbidden) {
        return failure;
    }
    failure.about("root's right to open the files of other users is given up at startup")
}

/// Whether the file exists and permissions refuse it to this process.
fn is_forbidden(file: &Path) -> bool {
    platform::without_waiting(OpenOptions::new().read(true))
        .open(file)
        .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// Returns the rest of the sentence for a process of root.
fn of_others() -> &'static str {
    #[cfg(unix)]
    if rustix::process::geteuid().is_root() {
        return " (root's right to open the files of other users is given up at startup)";
    }
    ""
}
