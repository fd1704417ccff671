//! Protection of secrets and token: hostile requests, port, token, file trust, redaction, wiping.

mod access;
mod hostile;
#[cfg(target_os = "linux")]
mod port;
mod redaction;
#[cfg(unix)]
mod socket;
mod token;
mod trust;
pub(crate) mod wiping;
