//! The parts of the agent that the routes use.

use std::fmt;
use std::sync::Arc;

use kms_agent_cache::{Answer, Demand, Prefetch, SecretService, Tasks, Watch};
use kms_agent_core::{SecretId, SecretRef, SourceError, Timestamp};
use prometheus_client::registry::Registry;
use serde::Serialize;

use crate::caller::{Access, Allowed};
use crate::config::ServerSettings;
use crate::monitor::HttpMetrics;

/// Files that the agent keeps equal to secrets, as probes and operators see them.
pub trait FileReport: fmt::Debug + Send + Sync {
    /// Returns the files in numbers.
    fn counts(&self) -> FileCounts;

    /// Returns the state of each file, without its content.
    fn list(&self) -> Vec<FileStatus>;
}

/// The files in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileCounts {
    /// All of them.
    pub total: usize,
    /// Equal to their secrets.
    pub written: usize,
    /// Not up to date.
    pub failed: usize,
    /// Each was tried once.
    pub first_pass_is_over: bool,
}

/// State of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileStatus {
    /// Path of the file.
    pub path: String,
    /// Secrets that it is made of. A caller that may not read one of them does not see the file.
    #[serde(skip)]
    pub secrets: Vec<SecretId>,
    /// The same as text.
    pub secret: String,
    /// Their versions, in the same order.
    pub version: Option<String>,
    /// Time of the last write by this process.
    pub written_at: Option<String>,
    /// `pending`, `written`, `failed` or `removed`.
    pub state: &'static str,
    /// Code or reason of the failure.
    pub error: Option<String>,
}

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
    /// Files that are kept equal to secrets.
    pub files: Box<dyn FileReport>,
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
    /// Reads a secret for a caller that may use it. Routes read by this and [`Self::read_all`] only.
    pub(crate) async fn read(
        &self,
        allowed: Allowed<'_>,
        demand: Demand,
    ) -> Result<Answer, Arc<SourceError>> {
        self.service.read(allowed.secret(), demand).await
    }

    /// Reads several secrets for a caller that may use them. The answers have their order.
    pub(crate) async fn read_all(
        &self,
        allowed: &[Allowed<'_>],
    ) -> Vec<Result<Answer, Arc<SourceError>>> {
        let secrets = allowed.iter().map(|it| it.secret().clone());
        let secrets: Vec<SecretRef> = secrets.collect();
        self.service.read_all(&secrets).await
    }

    /// Watches a secret for a caller that may use it.
    pub(crate) fn watch(&self, allowed: Allowed<'_>) -> Watch {
        self.service.watch(allowed.secret())
    }
}
