//! Failures of the system that a restart can fix, as opposed to bad configuration.

use std::io::{self, ErrorKind};

/// Whether the same call may succeed later without a change by the operator: a shortage of threads, descriptors,
/// memory or disk space, or an I/O error. Everything else is configuration: a path that does not exist, a
/// permission, a file of another kind.
pub fn may_pass(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::AlreadyExists
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::DirectoryNotEmpty
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidData
            | ErrorKind::InvalidFilename
            | ErrorKind::UnexpectedEof
            | ErrorKind::Unsupported
    ) && !is_wrong_kind(error)
}

/// The remedy for a failure that may pass.
pub fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::WouldBlock => {
            "The limit on threads or processes is reached; raise it (TasksMax, --pids-limit) or try again later"
        }
        ErrorKind::OutOfMemory => "Memory is short; raise its limit or try again later",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "Make room on the disk, or raise its quota or the limit on file sizes"
        }
        _ if is_out_of_descriptors(error) => {
            "Descriptors are used up; raise the limit on open files (LimitNOFILE) or try again later"
        }
        _ => "This may pass; try again, and check the disk if it does not",
    }
}

/// Whether the path leads in a circle, or to a socket, which cannot be opened.
#[cfg(unix)]
fn is_wrong_kind(error: &io::Error) -> bool {
    has_code(error, rustix::io::Errno::LOOP) || has_code(error, rustix::io::Errno::NXIO)
}

#[cfg(unix)]
fn is_out_of_descriptors(error: &io::Error) -> bool {
    has_code(error, rustix::io::Errno::MFILE) || has_code(error, rustix::io::Errno::NFILE)
}

#[cfg(unix)]
fn has_code(error: &io::Error, code: rustix::io::Errno) -> bool {
    // Libraries wrap the system's error to add a path.
    let wrapped = || {
        let source = error.get_ref()?.source()?;
        source.downcast_ref::<io::Error>()?.raw_os_error()
    };
    error.raw_os_error().or_else(wrapped) == Some(code.raw_os_error())
}

#[cfg(not(unix))]
fn is_wrong_kind(_error: &io::Error) -> bool {
    false
}

#[cfg(not(unix))]
fn is_out_of_descriptors(_error: &io::Error) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn shortages_pass_and_configuration_does_not() {
        for code in [
            Errno::AGAIN,
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::IO,
            Errno::INTR,
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::FBIG,
            Errno::BUSY,
            Errno::TXTBSY,
            Errno::TIMEDOUT,
            Errno::STALE,
            Errno::NOLCK,
            Errno::NOBUFS,
            Errno::ADDRINUSE,
        ] {
            assert!(may_pass(&code.into()), "{code}");
        }
        for code in [
            Errno::NOENT,
            Errno::ACCESS,
            Errno::PERM,
            Errno::EXIST,
            Errno::NOTDIR,
            Errno::ISDIR,
            Errno::ROFS,
            Errno::INVAL,
            Errno::NAMETOOLONG,
            Errno::LOOP,
            Errno::NXIO,
            Errno::NOSYS,
        ] {
            assert!(!may_pass(&code.into()), "{code}");
        }
    }

    #[test]
    fn the_remedy_fits_the_shortage() {
        for (code, word) in [
            (Errno::AGAIN, "TasksMax"),
            (Errno::MFILE, "LimitNOFILE"),
            (Errno::NFILE, "LimitNOFILE"),
            (Errno::NOMEM, "Memory"),
            (Errno::NOSPC, "room"),
            (Errno::IO, "check the disk"),
        ] {
            assert!(remedy(&code.into()).contains(word), "{code}");
        }
    }
}
