//! Process: hardening, signals and the service manager.

#[cfg(target_os = "linux")]
mod capability;
#[cfg(target_os = "linux")]
mod confine;
pub(crate) mod dumps;
#[cfg(target_os = "linux")]
mod filter;
pub(crate) mod harden;
pub(crate) mod id_map;
#[cfg(target_os = "linux")]
mod memory;
pub(crate) mod orphan;
pub(crate) mod reach;
pub(crate) mod rehearsal;
pub(crate) mod signal;
pub(crate) mod stack;
pub(crate) mod supervisor;
