//! No-op supervisor for platforms without `sd_notify`.

use std::future::{Ready, ready};

/// Supervisor without a service manager.
#[derive(Debug)]
pub(crate) struct Supervisor;

impl Supervisor {
    pub(crate) fn from_environment() -> Self {
        Self
    }

    pub(crate) fn ready(&self, _status: &str) {}

    pub(crate) fn reloading(&self) {}

    pub(crate) fn stopping(&self) {}

    pub(crate) fn run_watchdog(&self, _port: u16) -> Ready<()> {
        ready(())
    }
}
