//! Stack of the main thread, which the system limits.

use crate::exit::Failure;

/// Bytes of stack that the main thread needs, with a margin.
#[cfg(unix)]
const NEEDED: u64 = 256 * 1024;

/// Refuses a limit below the stack that the main thread needs. A stack overflow would end the process without a reason.
#[cfg(unix)]
pub(crate) fn check_limit() -> Result<(), Failure> {
    use rustix::process::{Resource, getrlimit};

    match getrlimit(Resource::Stack).current {
        Some(limit) if limit < NEEDED => Err(Failure::failed(format!(
            "the limit on the stack is {} KiB, and {} KiB are needed. Raise it (ulimit -s, LimitSTACK=)",
            limit / 1024,
            NEEDED / 1024
        ))),
        _ => Ok(()),
    }
}

/// Accepts every limit: it is part of the program file on other systems.
#[cfg(not(unix))]
pub(crate) fn check_limit() -> Result<(), Failure> {
    Ok(())
}
