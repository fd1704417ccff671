use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kms_agent_core::Clock;

use crate::http::{HttpError, HttpRequest, HttpResponse, HttpSend};

/// Writes down that a service around KMS was asked, and how it went; never what it said.
#[derive(Debug)]
pub(super) struct Logged {
    inner: Arc<dyn HttpSend>,
    /// Action to log, such as `AssumeRole`.
    action: &'static str,
    clock: Arc<dyn Clock>,
}

impl Logged {
    pub(super) fn new(
        inner: Arc<dyn HttpSend>,
        action: &'static str,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            inner,
            action,
            clock,
        }
    }
}

#[async_trait]
impl HttpSend for Logged {
    async fn prepare(&self) -> Result<bool, HttpError> {
        self.inner.prepare().await
    }

    fn distrust_connections(&self) {
        self.inner.distrust_connections();
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let began_at = self.clock.boot();
        let outcome = self.inner.send(request).await;
        let took: Duration = self.clock.boot().saturating_sub(began_at);
        tracing::debug!(
            target: "upstream",
            action = self.action,
            status = outcome.as_ref().ok().map(|response| response.status),
            cause = outcome.as_ref().err().map(ToString::to_string),
            millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "Asked for credentials or the region"
        );
        outcome
    }
}
