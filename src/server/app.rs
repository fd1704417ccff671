//! The parts of the agent that the routes use.

use std::sync::Arc;

use kms_agent_cache::{Answer, Demand, Prefetch, SecretService, Tasks, Watch};
use kms_agent_core::{SourceError, Timestamp};
use prometheus_client::registry::Registry;

use crate::caller::{Access, Allowed};
use crate::config::ServerSettings;
use crate::monitor::HttpMetrics;

/// Parts that every request can use.
#[derive(Debug)]
pub struct App {
    /// Startup time.
    pub started_at: Timestamp,
    /// Read path.
    pub service: Arc<SecretService>,
    /// Secrets that are loaded at startup.
    pub prefetch: Arc<Prefetch>,
    /// Callers and their rights.
    pub access: Arc<Access>,
    /// Settings of the operator.
    pub settings: ServerSettings,
    /// Background tasks.
    pub tasks: Arc<Tasks>,
    /// Every metric of the process, for `/metrics`.
    pub registry: Registry,
    /// Metrics of this layer.
    pub metrics: HttpMetrics,
}

impl App {
    /// Reads a secret for a caller that may use it. No route reads one in another way.
    pub(crate) async fn read(
        &self,
        allowed: Allowed<'_>,
        demand: Demand,
    ) -> Result<Answer, Arc<SourceError>> {
        self.service.read(allowed.secret(), demand).await
    }

    /// Watches a secret for a caller that may use it.
    pub(crate) fn watch(&self, allowed: Allowed<'_>) -> Watch {
        self.service.watch(allowed.secret())
    }
}
