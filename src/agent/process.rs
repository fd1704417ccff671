//! The process itself: hardening, signals, and what the service manager is told.

#[cfg(target_os = "linux")]
mod confine;
pub(crate) mod dumps;
pub(crate) mod harden;
pub(crate) mod reach;
pub(crate) mod signal;
#[cfg_attr(windows, path = "process/unsupervised.rs")]
pub(crate) mod supervisor;
