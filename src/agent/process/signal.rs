//! The signals that end the agent.

use crate::platform::Endings;

/// Calls `stop` at the first signal; returns at the second, which means: at once.
pub(crate) async fn watch(mut endings: Endings, stop: impl FnOnce()) {
    endings.next().await;
    tracing::info!("Stopping: finishing what is in flight");
    stop();
    endings.next().await;
}
