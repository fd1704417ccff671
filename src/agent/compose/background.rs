//! Background tasks of one agent.

use std::future::Future;
use std::sync::Arc;

use kms_agent_cache::Tasks;
use tokio::task::JoinSet;

/// Tasks that are restarted when they panic, until the agent stops.
#[derive(Debug)]
pub(super) struct Background {
    tasks: Arc<Tasks>,
    keepers: JoinSet<()>,
}

impl Background {
    pub(super) fn new(tasks: Arc<Tasks>) -> Self {
        Self {
            tasks,
            keepers: JoinSet::new(),
        }
    }

    /// Runs the task that `start` creates until it returns or the agent stops.
    pub(super) fn keep<F>(&mut self, name: &'static str, start: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.keepers
            .spawn(Arc::clone(&self.tasks).keep(name, start));
    }

    /// Stops all tasks and waits for them.
    pub(super) async fn stop(mut self) {
        self.keepers.shutdown().await;
    }
}
