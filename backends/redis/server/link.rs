//! The agent's link to the server: connects, follows the journal, and breaks the circuit when the server fails.

mod clock;
mod follow;
mod journal;
mod removal;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use kms_agent_core::secret::SecretKey;
use kms_agent_core::{Clock, Removal, Timestamp};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::ServerSettings;
use super::session::Session;
use super::trouble::{Trouble, TroubleKind};
use crate::journal::{Entry, Head};
use crate::key::FleetKey;
use crate::keyring::{Epoch, Id, Keyring};
use crate::local::LocalMap;

/// Age of the last reading up to which the agent counts as connected.
const CONNECTED_FOR: Duration = Duration::from_secs(1);

/// Everything that the parts of the backend share.
#[derive(Debug)]
pub(crate) struct Link {
    settings: ServerSettings,
    key: FleetKey,
    prefix: String,
    pub(crate) lease_time: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    local: Mutex<LocalMap>,
    /// The agent's timeline at boot time zero, in milliseconds; known from the first call.
    origin: Arc<OnceLock<i64>>,
    state: Mutex<LinkState>,
    /// Whether there has been a session.
    connected_once: watch::Sender<bool>,
    opened_at: Duration,
    /// Wakes the task after a call has failed.
    broken: Notify,
    /// Readers that wait for another agent, by place.
    waiting: Mutex<HashMap<Id, (usize, watch::Sender<()>)>>,
    /// Removals that the server has not taken.
    pending: Mutex<VecDeque<OwnRemoval>>,
    /// Entries of the journal that the server has not taken.
    unannounced: Mutex<VecDeque<Entry>>,
    /// Removals that it took a moment ago.
    taken: Mutex<VecDeque<(Duration, OwnRemoval)>>,
    failures: AtomicU64,
    /// Writes under way.
    pub(crate) writes: TaskTracker,
    stop: CancellationToken,
}

/// Handle that stops the link when it is dropped.
#[derive(Debug)]
pub(crate) struct Stop {
    _guard: tokio_util::sync::DropGuard,
}

#[derive(Debug, Default)]
struct LinkState {
    session: Option<Arc<Session>>,
    /// Boot time at which the last reading of the journal began.
    polled_at: Duration,
    /// Epoch and number of the last entry that was applied, also of an earlier connection.
    last_head: Option<Head>,
    trouble: Option<Trouble>,
    keyring: Option<Arc<Keyring>>,
    committed_at: Option<Timestamp>,
    clock_confirmed: bool,
    clock_warned: bool,
}

/// A removal that this agent made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OwnRemoval {
    Purge(Removal),
    Decision(SecretKey),
}

impl LinkState {
    /// Returns the session while the last reading of the journal is recent at boot time `now`.
    fn connected(&self, now: Duration) -> Option<&Arc<Session>> {
        let is_recent = now <= self.polled_at + CONNECTED_FOR;
        self.session.as_ref().filter(|_| is_recent)
    }
}

impl Link {
    pub(crate) fn new(
        settings: ServerSettings,
        key: FleetKey,
        prefix: String,
        lease_time: Duration,
        local: LocalMap,
        keyring: Option<Arc<Keyring>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let mut local = local;
        if let Some(keyring) = &keyring {
            local.adopt(Arc::clone(keyring));
        }
        Self {
            settings,
            key,
            prefix,
            lease_time,
            opened_at: clock.boot(),
            clock,
            local: Mutex::new(local),
            origin: Arc::default(),
            state: Mutex::new(LinkState {
                keyring,
                ..LinkState::default()
            }),
            connected_once: watch::Sender::new(false),
            broken: Notify::new(),
            waiting: Mutex::default(),
            pending: Mutex::default(),
            unannounced: Mutex::default(),
            taken: Mutex::default(),
            failures: AtomicU64::new(0),
            writes: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Starts following the server in the background.
    pub(crate) fn start(self: &Arc<Self>) -> Stop {
        let link = Arc::clone(self);
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = link.follow() => {}
            }
        });
        Stop {
            _guard: self.stop.clone().drop_guard(),
        }
    }

    pub(crate) fn local(&self) -> MutexGuard<'_, LocalMap> {
        lock(&self.local)
    }

    /// Learns from the first call where boot time lies on the agent's timeline.
    pub(crate) fn learn_origin(&self, now: Timestamp) {
        self.origin
            .get_or_init(|| now.as_millis().saturating_sub(self.boot_millis()));
    }

    /// Returns the present moment on the agent's timeline.
    pub(crate) fn now(&self) -> Timestamp {
        let origin = self.origin.get().copied().unwrap_or(0);
        Timestamp::from_millis(self.boot_millis().saturating_add(origin))
    }

    fn boot_millis(&self) -> i64 {
        i64::try_from(self.clock.boot().as_millis()).unwrap_or(i64::MAX)
    }

    /// Returns the session while the agent is connected.
    pub(crate) fn session(&self) -> Option<Arc<Session>> {
        let state = lock(&self.state);
        state.connected(self.clock.boot()).cloned()
    }

    /// The same, after waiting for the first connection as long as a reader waits for an answer.
    pub(crate) async fn session_or_first(&self) -> Option<Arc<Session>> {
        let deadline = self.opened_at + self.settings.timeout;
        if self.clock.boot() < deadline && self.origin.get().is_some() {
            let mut connected = self.connected_once.subscribe();
            tokio::select! {
                _ = connected.wait_for(|it| *it) => {}
                () = self.clock.sleep_until(deadline) => {}
            }
        }
        self.session()
    }

    /// Breaks the circuit after a call has failed.
    pub(crate) fn failed(&self, trouble: Trouble) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if trouble.kind == TroubleKind::EpochChanged {
            // The next reading of the journal finds the epoch.
            self.broken.notify_one();
            return;
        }
        // A full server still answers reads.
        if trouble.kind != TroubleKind::Full {
            lock(&self.state).session = None;
            self.broken.notify_one();
        }
        self.note_trouble(trouble);
    }

    /// Notes a write that the server took.
    pub(crate) fn committed(&self, at: Timestamp) {
        let mut state = lock(&self.state);
        state.committed_at = state.committed_at.max(Some(at));
        let is_full = |trouble: &Trouble| trouble.kind == TroubleKind::Full;
        if state.trouble.as_ref().is_some_and(is_full) {
            state.trouble = None;
            tracing::info!("The shared cache server takes writes again");
        }
    }

    pub(crate) fn committed_at(&self) -> Option<Timestamp> {
        lock(&self.state).committed_at
    }

    /// Returns a word for what is wrong.
    pub(crate) fn trouble(&self) -> Option<&'static str> {
        let state = lock(&self.state);
        let is_connected = state.connected(self.clock.boot()).is_some();
        let word = state.trouble.as_ref().map(|trouble| trouble.kind.word());
        word.or((!is_connected).then_some("connecting"))
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Returns the server as the status shows it.
    pub(crate) fn shown(&self) -> String {
        format!("{} {}", self.settings.urls.join(","), self.prefix)
    }

    /// Number of the last entry of the journal that is known.
    pub(crate) fn sequence(&self) -> u64 {
        let state = lock(&self.state);
        state.last_head.as_ref().map_or(0, |head| head.sequence)
    }

    pub(crate) fn confirm_clock(&self) {
        lock(&self.state).clock_confirmed = true;
    }

    /// Returns whether the agent is connected in this epoch.
    pub(crate) fn is_in_epoch(&self, epoch: &Epoch) -> bool {
        self.session()
            .is_some_and(|session| session.epoch == *epoch)
    }

    /// Registers a reader that waits for an entry of the journal about `place`.
    pub(crate) fn wait_for(self: &Arc<Self>, place: Id) -> PlaceWaiter {
        let mut waiting = lock(&self.waiting);
        let (count, sender) = waiting
            .entry(place)
            .or_insert_with(|| (0, watch::Sender::new(())));
        *count += 1;
        let entries = sender.subscribe();
        drop(waiting);
        self.broken.notify_one();
        PlaceWaiter {
            link: Arc::clone(self),
            place,
            entries,
        }
    }

    fn note_trouble(&self, trouble: Trouble) {
        let mut state = lock(&self.state);
        let is_known = state
            .trouble
            .as_ref()
            .is_some_and(|known| known.kind == trouble.kind);
        if !is_known {
            let kind = trouble.kind;
            if kind == TroubleKind::KeyMissing {
                tracing::error!(
                    error = %trouble,
                    "The key of the shared cache is missing, so entries stay in this agent's memory; {}",
                    kind.remedy()
                );
            } else {
                tracing::warn!(
                    error = %trouble,
                    state = kind.word(),
                    "The shared cache server cannot be used; {}",
                    kind.remedy()
                );
            }
        }
        state.trouble = Some(trouble);
    }

    fn wake(&self, place: &Id) {
        if let Some((_, sender)) = lock(&self.waiting).get(place) {
            sender.send_replace(());
        }
    }

    fn wake_all(&self) {
        for (_, sender) in lock(&self.waiting).values() {
            sender.send_replace(());
        }
    }

    /// Writes what is under way, and stops.
    pub(crate) async fn close(&self) {
        self.writes.close();
        self.writes.wait().await;
        self.stop.cancel();
        lock(&self.state).session = None;
    }
}

/// A reader that waits for another agent.
#[derive(Debug)]
pub(crate) struct PlaceWaiter {
    link: Arc<Link>,
    place: Id,
    entries: watch::Receiver<()>,
}

impl PlaceWaiter {
    /// Wakes at the next entry of the journal about the place, also at one that came since the last call, or at boot
    /// time `until`.
    pub(crate) async fn wait(&mut self, until: Duration) {
        let clock = Arc::clone(&self.link.clock);
        tokio::select! {
            _ = self.entries.changed() => {}
            () = clock.sleep_until(until) => {}
        }
    }
}

impl Drop for PlaceWaiter {
    fn drop(&mut self) {
        let mut waiting = lock(&self.link.waiting);
        if let Some((count, _)) = waiting.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.place);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
