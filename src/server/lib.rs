//! The HTTP layer of `alibabacloud-kms-agent`: two loopback listeners, a guard that lets nobody in but the
//! applications on this machine, and the routes of the API.
//!
//! It does not know which cache backend runs or how KMS is asked: it hands a question to
//! [`SecretService`] and renders what comes back.

mod access;
pub mod config;
mod error;
mod format;
mod guard;
pub mod member;
mod metric;
mod query;
mod readiness;
mod refusal;
mod response;
mod routes;
pub mod serve;
pub mod token;

use std::sync::Arc;

use kms_agent_cache::{Prefetch, SecretService, Tasks};
use kms_agent_core::Timestamp;
use prometheus_client::registry::Registry;

pub use self::config::ServerSettings;
pub use self::format::{
    KMS_MEDIA_TYPE, ReadError, ResponseType, SecretBytes, read_error, read_value,
};
pub use self::metric::HttpMetrics;
pub use self::serve::{BindError, Listeners, serve};
pub use self::token::{Token, TokenStore};

/// What the routes work with.
#[derive(Debug)]
pub struct App {
    /// When the agent started.
    pub started_at: Timestamp,
    /// Answers reads.
    pub service: Arc<SecretService>,
    /// The secrets loaded at start.
    pub prefetch: Arc<Prefetch>,
    /// The token in force.
    pub token: Arc<TokenStore>,
    /// The operator's settings.
    pub settings: ServerSettings,
    /// The background tasks.
    pub tasks: Arc<Tasks>,
    /// Every metric of the process, for `/metrics`.
    pub registry: Registry,
    /// The metrics of this layer.
    pub metrics: HttpMetrics,
}
