//! Findings of startup from before the log existed, which are logged later.

use std::path::PathBuf;

use kms_agent_trust::is_new_warning;

use crate::process::harden;

/// Findings of the steps between the config and the runtime.
#[derive(Debug)]
pub(super) struct Findings {
    /// Problems in the config that do not stop the agent.
    pub(super) config: Vec<String>,
    /// Hardening that is not in effect.
    pub(super) hardening: harden::Warnings,
    /// Files that others may read or change.
    pub(super) files: Vec<String>,
    /// Folders that the process cannot reach until a restart.
    pub(super) missing: Vec<PathBuf>,
    /// Port that the service manager holds and the agent does not use.
    pub(super) unused_port: Option<u16>,
}

impl Findings {
    /// Logs each finding; `port` is the one that the agent listens on.
    pub(super) fn log(&self, port: u16) {
        for warning in &self.config {
            tracing::warn!("{warning}");
        }
        for warning in &self.hardening {
            tracing::warn!(cause = warning.as_str(), "Process hardening is incomplete");
        }
        if !self.missing.is_empty() {
            tracing::info!(
                folders = ?self.missing,
                "Folders that do not exist are out of reach until a restart, even if they are created"
            );
        }
        for doubt in self.files.iter().filter(|doubt| is_new_warning(doubt)) {
            tracing::warn!(
                cause = doubt.as_str(),
                "The permissions of a file are not safe"
            );
        }
        if let Some(held) = self.unused_port {
            tracing::warn!(
                held.port = held,
                configured.port = port,
                "The .socket unit holds another port than Server.HttpPort, and connections to it are not answered; \
                 set its ListenStream= to the configured port, and restart it"
            );
        }
    }
}
