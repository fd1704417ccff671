//! The process itself: hardening and signals.

pub(crate) mod harden;
pub(crate) mod signal;
