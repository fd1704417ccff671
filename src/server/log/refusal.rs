//! What was turned away at the door. Told once a second at most, however many there are: whoever fills the log
//! with refusals hides what else happens.

use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::log_gate::{Event, LogGate};

/// For how long refusals are gathered before they are told of together.
const GATHERING: Duration = Duration::from_secs(1);

/// RefusalLog that are still to be told of, by their code.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog(LogGate<()>);

impl RefusalLog {
    /// Counts one, to be told of within a second.
    pub(crate) fn note(self: &Arc<Self>, code: &str) {
        let event = Event {
            code,
            ..Event::default()
        };
        if self.0.note((), event, || None) {
            let refusals = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(GATHERING).await;
                refusals.log();
            });
        }
    }

    /// Tells of what was gathered, a line for each code.
    pub(crate) fn log(&self) {
        for ((), code, gathered) in self.0.rest() {
            let count = gathered.count;
            tracing::info!(code = &*code, count, "Requests were refused");
        }
    }
}
