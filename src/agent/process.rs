//! The process itself: hardening, signals, and what the service manager is told.

#[cfg(target_os = "linux")]
mod capability;
#[cfg(target_os = "linux")]
mod confine;
pub(crate) mod dumps;
#[cfg(target_os = "linux")]
mod filter;
pub(crate) mod harden;
#[cfg(target_os = "linux")]
mod memory;
#[cfg_attr(windows, path = "process/unadopted.rs")]
pub(crate) mod orphan;
pub(crate) mod reach;
pub(crate) mod rehearsal;
pub(crate) mod signal;
#[cfg_attr(windows, path = "process/unsupervised.rs")]
pub(crate) mod supervisor;
