//! KMS sources of this process: one at startup, and one for each reload that changes it.

use std::sync::Arc;

use kms_agent_cache::Tasks;
use kms_agent_core::{Clock, Scope};
use kms_agent_kms::{Environment, KmsMetrics, KmsSource, Settings};
use tokio_util::task::AbortOnDropHandle;

/// Parts that every source of this process uses.
pub(crate) struct Sources {
    /// Restarts the task that maintains a source.
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) environment: Environment,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: KmsMetrics,
    /// Scope that the store was last used with.
    pub(crate) resumed: Option<Arc<Scope>>,
}

impl Sources {
    /// Returns a source, and the task that maintains it until the task is dropped.
    pub(crate) fn open(&self, settings: &Settings) -> (Arc<KmsSource>, AbortOnDropHandle<()>) {
        let source = KmsSource::new(
            settings.clone(),
            &self.environment,
            Arc::clone(&self.clock),
            self.metrics.clone(),
        );
        if let Some(scope) = &self.resumed {
            source.resume(scope);
        }
        let maintained = Arc::clone(&source);
        let maintenance = Arc::clone(&self.tasks).keep("credentials", move || {
            let maintained = Arc::clone(&maintained);
            async move { maintained.maintain().await }
        });
        (source, AbortOnDropHandle::new(tokio::spawn(maintenance)))
    }
}
