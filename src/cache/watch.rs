//! Watched secrets: one state for each, shared by all its watchers.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kms_agent_core::fleet::Removal;
use kms_agent_core::jitter;
use kms_agent_core::lifetime::Timestamp;
use kms_agent_core::secret::SecretRef;
use kms_agent_core::source::SourceError;
use tokio::sync::{Notify, watch};

use crate::answer::{Answer, Demand};
use crate::service::SecretService;

/// Time after a rotation date in which KMS finishes the rotation.
const ROTATION_GRACE: Duration = Duration::from_secs(2);

/// The most that is added to it, so that a fleet of agents does not ask in one moment.
const ROTATION_SPREAD: Duration = Duration::from_secs(3);

/// State of a watched secret. It holds no value.
#[derive(Clone, Debug, Default)]
pub enum WatchState {
    /// The agent has not asked yet, or asks again after a purge.
    #[default]
    Pending,
    /// Version that the agent last received or holds.
    Version(Arc<str>),
    /// KMS refused the secret when it was last asked.
    Refused(Arc<SourceError>),
    /// KMS cannot be asked, and the agent holds no version.
    Unavailable(Arc<SourceError>),
}

impl WatchState {
    /// Returns the version, if one is known.
    pub fn version(&self) -> Option<&Arc<str>> {
        match self {
            Self::Version(version) => Some(version),
            Self::Pending | Self::Refused(_) | Self::Unavailable(_) => None,
        }
    }

    /// Whether a watcher that knows `self` learns nothing from `other`.
    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pending, Self::Pending) => true,
            (Self::Version(one), Self::Version(other)) => one == other,
            (Self::Refused(one), Self::Refused(other))
            | (Self::Unavailable(one), Self::Unavailable(other)) => one.code() == other.code(),
            _ => false,
        }
    }
}

/// Subscription to one secret. While one exists, the agent checks the secret every `Cache.WatchSeconds`.
///
/// All subscriptions to a secret share one task, which ends when the last of them is dropped.
pub struct Watch {
    service: Arc<SecretService>,
    secret: SecretRef,
    state: watch::Receiver<WatchState>,
}

impl Watch {
    /// Returns the present state, which [`changed`](Self::changed) does not report again.
    pub fn state(&mut self) -> WatchState {
        self.state.borrow_and_update().clone()
    }

    /// Waits until the state differs from the one last returned, and returns it. Dropping the future loses nothing.
    pub async fn changed(&mut self) -> WatchState {
        // The task that owns the sender lives as long as this subscription.
        let _ = self.state.changed().await;
        self.state()
    }

    /// Returns the secret that is watched.
    pub fn secret(&self) -> &SecretRef {
        &self.secret
    }

    /// Reads the value: from the cache where it is held, else from KMS.
    pub async fn read(&self) -> Result<Answer, Arc<SourceError>> {
        self.service.read(&self.secret, Demand::Any).await
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("secret", &self.secret)
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

/// The watched secrets.
#[derive(Debug, Default)]
pub(crate) struct Watches(Mutex<HashMap<SecretRef, Arc<WatchedSecret>>>);

/// A watched secret.
#[derive(Debug, Default)]
pub(crate) struct WatchedSecret {
    state: watch::Sender<WatchState>,
    known: Mutex<Known>,
    /// Wakes the task before its time.
    wake: Notify,
}

/// Knowledge of a watched secret that decides when it is checked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// Time when KMS was asked for the last answer.
    pub(crate) asked_at: Option<Timestamp>,
    rotates_at: Option<Timestamp>,
    /// Number of times that the last answer became outdated, as by a purge.
    outdated: u64,
    /// The same number when the call for the last answer began.
    covered: u64,
}

impl Known {
    /// Returns the time of the next check.
    pub(crate) fn due_at(&self, every: Duration) -> Option<Timestamp> {
        let asked_at = self.asked_at.filter(|_| !self.is_outdated())?;
        let by_pace = asked_at.plus(every + jitter::up_to(every / 10));
        let by_rotation = self
            .rotates_at
            .filter(|at| *at > asked_at)
            .map(|at| at.plus(ROTATION_GRACE + jitter::up_to(ROTATION_SPREAD)));
        Some(by_rotation.map_or(by_pace, |at| at.min(by_pace)))
    }

    /// Whether an entry of another agent makes a check that is due unnecessary.
    pub(crate) fn is_satisfied_by(
        &self,
        fetched_at: Timestamp,
        every: Duration,
        now: Timestamp,
    ) -> bool {
        let is_newer = |known: Timestamp| fetched_at > known;
        !self.is_outdated()
            && now.since(fetched_at) < every
            && self.asked_at.is_none_or(is_newer)
            && self.rotates_at.is_none_or(|at| is_newer(at) || now < at)
    }

    /// Whether only the answer to a later call will do.
    pub(crate) fn is_outdated(&self) -> bool {
        self.outdated > self.covered
    }
}

impl WatchedSecret {
    pub(crate) fn known(&self) -> Known {
        *self.lock()
    }

    pub(crate) fn state(&self) -> WatchState {
        self.state.borrow().clone()
    }

    /// Notes an answer of KMS, or an entry in the cache. An older answer changes nothing.
    pub(crate) fn note(
        &self,
        version: &Arc<str>,
        asked_at: Timestamp,
        rotates_at: Option<Timestamp>,
    ) {
        {
            let mut known = self.lock();
            if known.asked_at.is_some_and(|known| known > asked_at) {
                return;
            }
            known.asked_at = Some(asked_at);
            known.rotates_at = rotates_at;
        }
        self.set(WatchState::Version(Arc::clone(version)));
    }

    pub(crate) fn note_refusal(&self, error: &Arc<SourceError>, now: Timestamp) {
        self.lock().asked_at = Some(now);
        self.set(WatchState::Refused(Arc::clone(error)));
    }

    /// Notes an answer to a call that began when `before` was known.
    pub(crate) fn note_answered(&self, before: &Known) {
        self.lock().covered = before.outdated;
    }

    pub(crate) fn set(&self, state: WatchState) {
        self.state.send_if_modified(|present| {
            let is_change = !present.equals(&state);
            *present = state;
            is_change
        });
    }

    fn outdate(&self) {
        self.lock().outdated += 1;
        self.wake.notify_one();
    }

    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Returns when no watcher is left.
    pub(crate) async fn abandoned(&self) {
        self.state.closed().await;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watches {
    /// Returns the watched secret, if it is one.
    pub(crate) fn get(&self, secret: &SecretRef) -> Option<Arc<WatchedSecret>> {
        self.lock().get(secret).cloned()
    }

    /// Adds a watcher. The second part is the secret where it was not watched before.
    fn subscribe(
        &self,
        secret: &SecretRef,
    ) -> (watch::Receiver<WatchState>, Option<Arc<WatchedSecret>>) {
        let mut watched = self.lock();
        if let Some(present) = watched.get(secret) {
            let receiver = present.state.subscribe();
            if matches!(
                present.state(),
                WatchState::Refused(_) | WatchState::Unavailable(_)
            ) {
                // A new watcher is not answered with an old failure.
                present.set(WatchState::Pending);
                present.outdate();
            }
            return (receiver, None);
        }
        let added = Arc::<WatchedSecret>::default();
        let receiver = added.state.subscribe();
        watched.insert(secret.clone(), Arc::clone(&added));
        (receiver, Some(added))
    }

    /// Forgets `secret` if it has no watcher. Returns whether it was forgotten.
    pub(crate) fn end(&self, secret: &SecretRef) -> bool {
        let mut watched = self.lock();
        let is_abandoned = watched
            .get(secret)
            .is_none_or(|present| present.state.receiver_count() == 0);
        if is_abandoned {
            watched.remove(secret);
        }
        is_abandoned
    }

    /// Has what was purged checked at once.
    pub(crate) fn purged(&self, removal: &Removal) {
        for (secret, watched) in &*self.lock() {
            if removal.covers(&secret.id) {
                watched.set(WatchState::Pending);
                watched.outdate();
            }
        }
    }

    /// Has every watched secret checked at once.
    pub(crate) fn outdate_all(&self) {
        for watched in self.lock().values() {
            watched.outdate();
        }
    }

    /// Makes every task compute its next check again.
    pub(crate) fn wake_all(&self) {
        for watched in self.lock().values() {
            watched.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SecretRef, Arc<WatchedSecret>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SecretService {
    /// Watches a secret.
    pub fn watch(self: &Arc<Self>, secret: &SecretRef) -> Watch {
        let (state, added) = self.watches.subscribe(secret);
        if let Some(watched) = added {
            tokio::spawn(Arc::clone(self).keep_watching(secret.clone(), watched));
        }
        Watch {
            service: Arc::clone(self),
            secret: secret.clone(),
            state,
        }
    }
}
