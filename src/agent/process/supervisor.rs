//! Service manager of the process.

#[cfg(not(unix))]
mod noop;
#[cfg(unix)]
mod notify_socket;
#[cfg(unix)]
mod systemd;

#[cfg(not(unix))]
pub(crate) use self::noop::Supervisor;
#[cfg(unix)]
pub(crate) use self::systemd::Supervisor;
