//! What was turned away at the door. Told once a second at most, however many there are: whoever fills the log
//! with refusals hides what else happens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// For how long refusals are gathered before they are told of together.
const GATHERING: Duration = Duration::from_secs(1);

/// Refusals that are still to be told of, by their code.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<String, u64>>);

impl Refusals {
    /// Counts one, to be told of within a second.
    pub(crate) fn note(self: &Arc<Self>, code: &str) {
        let mut counts = self.lock();
        let is_first = counts.is_empty();
        if let Some(count) = counts.get_mut(code) {
            *count += 1;
        } else {
            counts.insert(code.to_owned(), 1);
        }
        drop(counts);
        if is_first {
            let refusals = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(GATHERING).await;
                refusals.tell();
            });
        }
    }

    /// Tells of what was gathered, a line for each code.
    pub(crate) fn tell(&self) {
        let counts = std::mem::take(&mut *self.lock());
        for (code, count) in counts {
            tracing::info!(code, count, "Requests were refused");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
