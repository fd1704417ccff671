//! Log lines about refused requests, at most one a second for each code. Without this limit a caller could fill the log
//! with refusals.

use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::log_gate::{Event, LogGate};

/// Time for which refusals are counted before they are logged together.
const LOG_DELAY: Duration = Duration::from_secs(1);

/// Refusals that are not logged yet, by their code.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog(LogGate<()>);

impl RefusalLog {
    /// Counts one, to be logged within a second.
    pub(crate) fn note(self: &Arc<Self>, code: &str) {
        let event = Event {
            code,
            ..Event::default()
        };
        if self.0.note((), event, || None) {
            let log = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(LOG_DELAY).await;
                log.log();
            });
        }
    }

    /// Logs one line for each code.
    pub(crate) fn log(&self) {
        for ((), code, counted) in self.0.rest() {
            let count = counted.count;
            tracing::info!(code = &*code, count, "Requests were refused");
        }
    }
}
