//! The parts of the agent that the routes use.

use std::sync::Arc;

use kms_agent_cache::{Prefetch, SecretService, Tasks};
use kms_agent_core::Timestamp;
use prometheus_client::registry::Registry;

use crate::config::ServerSettings;
use crate::monitor::HttpMetrics;
use crate::token::TokenStore;

/// Parts that every request can use.
#[derive(Debug)]
pub struct App {
    /// Startup time.
    pub started_at: Timestamp,
    /// Read path.
    pub service: Arc<SecretService>,
    /// Secrets that are loaded at startup.
    pub prefetch: Arc<Prefetch>,
    /// Current token.
    pub token: Arc<TokenStore>,
    /// Settings of the operator.
    pub settings: ServerSettings,
    /// Background tasks.
    pub tasks: Arc<Tasks>,
    /// Every metric of the process, for `/metrics`.
    pub registry: Registry,
    /// Metrics of this layer.
    pub metrics: HttpMetrics,
}
