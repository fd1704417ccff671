//! Renewals: one caller asks a service, and the others wait for the same answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kms_agent_core::{Backoff, Clock, Retry};

/// Pauses between tries of a credential provider, or of the metadata service for the region, while it fails.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Turns at asking for something that many callers need. A failure holds until its retry is due, so that callers do
/// not queue up for the next one.
#[derive(Debug)]
pub(crate) struct Renewal<E> {
    clock: Arc<dyn Clock>,
    past: Mutex<Past<E>>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Past<E> {
    /// Times that the service was asked and the outcome noted.
    asked: u64,
    failure: Option<(Retry, E)>,
}

/// One caller's turn. Others wait until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a, E> {
    renewal: &'a Renewal<E>,
    /// Whether another caller asked while this one waited.
    came_late: bool,
    _alone: tokio::sync::MutexGuard<'a, ()>,
}

impl<E: Clone> Renewal<E> {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            past: Mutex::new(Past {
                asked: 0,
                failure: None,
            }),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Waits for the turn of this caller.
    pub(crate) async fn turn(&self) -> Turn<'_, E> {
        let asked = self.lock().asked;
        let alone = self.turn.lock().await;
        Turn {
            renewal: self,
            came_late: self.lock().asked != asked,
            _alone: alone,
        }
    }

    /// The retry of the last try, if that failed.
    pub(crate) fn retry(&self) -> Option<Retry> {
        let past = self.lock();
        past.failure.as_ref().map(|(retry, _)| retry.clone())
    }

    /// The failure of the last try.
    pub(crate) fn failure(&self) -> Option<E> {
        let past = self.lock();
        past.failure.as_ref().map(|(_, error)| error.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Past<E>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Clone> Turn<'_, E> {
    /// The failure that this caller shares: another caller met it meanwhile, or its retry is not due yet.
    pub(crate) fn failure(&self) -> Option<E> {
        let past = self.renewal.lock();
        let (retry, error) = past.failure.as_ref()?;
        let holds = self.came_late || self.renewal.clock.boot() < retry.due_at();
        holds.then(|| error.clone())
    }

    /// Notes that the service answered. Returns whether it had failed before.
    pub(crate) fn succeeded(&self) -> bool {
        let mut past = self.renewal.lock();
        past.asked += 1;
        past.failure.take().is_some()
    }

    /// Notes that the service failed. Returns whether it had failed before.
    pub(crate) fn failed(&self, error: E) -> bool {
        let mut past = self.renewal.lock();
        past.asked += 1;
        let before = past.failure.take();
        let retry = before.as_ref().map(|(retry, _)| retry);
        let retry = BACKOFF.failed(retry, self.renewal.clock.boot());
        past.failure = Some((retry, error));
        before.is_some()
    }
}
