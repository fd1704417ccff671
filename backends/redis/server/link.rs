//! The agent's link to the server: connects, follows the journal, and breaks the circuit when the server fails.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use kms_agent_core::secret::SecretKey;
use kms_agent_core::{Backoff, Clock, Removal, Timestamp};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{Connection, ServerSettings};
use super::session::{ServerTime, Session, begin_journal, head, server_millis};
use super::trouble::{Trouble, TroubleKind};
use crate::journal::{Entry, Event, Head};
use crate::key::FleetKey;
use crate::keyring::{Epoch, Id, Keyring};
use crate::local::LocalMap;

/// Pause between two readings of the journal.
const POLL_EVERY: Duration = Duration::from_millis(700);
/// The same while a reader waits for another agent.
const POLL_WHILE_WAITING: Duration = Duration::from_millis(200);
/// Age of the last reading up to which the agent counts as connected.
const CONNECTED_FOR: Duration = Duration::from_secs(1);
/// Readings of the journal between two readings of the server's clock.
const POLLS_PER_CLOCK: u32 = 10;
/// Readings of the journal between two comparisons of the data key, about a minute.
const POLLS_PER_KEY: u32 = 85;
/// Departure of the server's clock from boot time that is warned of.
const CLOCK_JUMP_MILLIS: i64 = 2000;
/// Departure of the server's clock from the wall clock that is warned of.
const CLOCK_DIFFERENCE_MILLIS: i64 = 5 * 60 * 1000;
/// Removals of this agent that are repeated after the server lost writes.
const REMOVALS_REPEATED_FOR: Duration = Duration::from_mins(1);
/// Longest wait of a removal for an epoch that another agent has begun.
const EPOCH_PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two attempts in that time.
const EPOCH_PAUSE: Duration = Duration::from_millis(20);
/// Removals that wait for a server; older ones give way to a purge of everything.
const MAX_PENDING: usize = 10_000;

const RECONNECT: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));

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
    /// Number of the last entry that was applied.
    sequence: u64,
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
        let is_recent = self.clock.boot() <= state.polled_at + CONNECTED_FOR;
        state.session.clone().filter(|_| is_recent)
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
        let is_connected =
            state.session.is_some() && self.clock.boot() <= state.polled_at + CONNECTED_FOR;
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
        lock(&self.state).sequence
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

    /// Appends an entry to the journal, or keeps it until the server can be used: the other agents must learn that
    /// their copies may be old. In a new epoch too, whose records do not have it.
    pub(crate) async fn announce(&self, entry: &Entry) {
        let deadline = self.clock.boot() + EPOCH_PATIENCE;
        loop {
            let Some(session) = self.session() else {
                break;
            };
            let Err(trouble) = session.append(entry, self.sequence()).await else {
                return;
            };
            let epoch_changed = trouble.kind == TroubleKind::EpochChanged;
            self.failed(trouble);
            let now = self.clock.boot();
            if !epoch_changed || now >= deadline {
                break;
            }
            self.clock.sleep_until(now + EPOCH_PAUSE).await;
        }
        let mut unannounced = lock(&self.unannounced);
        if unannounced.len() == MAX_PENDING {
            unannounced.pop_front();
        }
        unannounced.push_back(*entry);
    }

    /// Makes a removal on the server, or keeps it until the server can be used. Returns why it was not taken.
    pub(crate) async fn remove(&self, removal: OwnRemoval) -> Result<(), Option<Trouble>> {
        let deadline = self.clock.boot() + EPOCH_PATIENCE;
        loop {
            let Some(session) = self.session() else {
                self.keep(removal);
                return Err(None);
            };
            let Err(trouble) = self.make(&session, &removal).await else {
                return Ok(());
            };
            self.failed(trouble.clone());
            let now = self.clock.boot();
            if trouble.kind != TroubleKind::EpochChanged || now >= deadline {
                self.keep(removal);
                return Err(Some(trouble));
            }
            self.clock.sleep_until(now + EPOCH_PAUSE).await;
        }
    }

    /// Takes a removal that the server took off the list of those that wait.
    fn settle(&self, removal: &OwnRemoval) {
        let mut pending = lock(&self.pending);
        if let Some(at) = pending.iter().position(|it| it == removal) {
            pending.remove(at);
        }
    }

    /// Keeps a removal until the server takes it.
    fn keep(&self, removal: OwnRemoval) {
        let mut pending = lock(&self.pending);
        if pending.len() == MAX_PENDING {
            pending.clear();
            pending.push_back(OwnRemoval::Purge(Removal::Everything));
        }
        pending.push_back(removal);
    }

    async fn make(&self, session: &Session, removal: &OwnRemoval) -> Result<(), Trouble> {
        // What was fetched up to this moment goes, by the clock of every agent.
        let at = session.time().on_server_at_latest(self.now());
        let near = self.sequence();
        match removal {
            OwnRemoval::Purge(Removal::Name(name)) => {
                session.purge(name).await?;
                let name = session.keyring.name_id(name);
                let event = Event::Purged { name };
                session.append(&Entry { event, at }, near).await?;
            }
            OwnRemoval::Purge(Removal::Everything) => {
                if session.purge_all(at).await?.is_none() {
                    return Err(Trouble::new(
                        TroubleKind::EpochChanged,
                        "another agent purges everything at the same time",
                    ));
                }
                // A new key too, where KMS makes them. The epoch alone removes all entries.
                let rotated = self
                    .key
                    .rotate(&session.connection, &self.prefix, session.timeout)
                    .await;
                if let Err(error) = rotated {
                    tracing::warn!(
                        %error,
                        "Everything was purged, but no new data key was made; purge again to have one"
                    );
                } else if matches!(self.key, FleetKey::Kms(_)) {
                    lock(&self.state).session = None;
                }
                // The next reading of the journal finds the new epoch.
                self.broken.notify_one();
            }
            OwnRemoval::Decision(key) => {
                let keys = session.keyring.server_keys(&session.epoch, key);
                session.decide(&keys, None).await?;
                let place = session.keyring.place_id(key);
                let event = Event::Refused { place };
                session.append(&Entry { event, at }, near).await?;
            }
        }
        self.note_taken(removal.clone());
        Ok(())
    }

    /// Remembers a removal that the server took, to be repeated should it lose it.
    pub(crate) fn note_taken(&self, removal: OwnRemoval) {
        let now = self.clock.boot();
        let mut taken = lock(&self.taken);
        while taken
            .front()
            .is_some_and(|(at, _)| now > *at + REMOVALS_REPEATED_FOR)
        {
            taken.pop_front();
        }
        taken.push_back((now, removal));
        self.committed(self.now());
    }

    /// Follows the server until the agent stops.
    async fn follow(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            match self.connect().await {
                Ok(session) => {
                    failures = 0;
                    self.publish(session);
                    let trouble = self.poll().await;
                    lock(&self.state).session = None;
                    if trouble.kind == TroubleKind::KeyChanged {
                        continue;
                    }
                    self.note_trouble(trouble);
                }
                Err(trouble) if trouble.kind == TroubleKind::EpochChanged => continue,
                Err(trouble) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    self.note_trouble(trouble);
                }
            }
            let pause = RECONNECT.pause(failures);
            failures = failures.saturating_add(1);
            self.clock.sleep_until(self.clock.boot() + pause).await;
        }
    }

    async fn keyring(
        &self,
        connection: &Connection,
        timeout: Duration,
    ) -> Result<Arc<Keyring>, Trouble> {
        let known = lock(&self.state).keyring.clone();
        if let (Some(keyring), FleetKey::File(_)) = (&known, &self.key) {
            return Ok(Arc::clone(keyring));
        }
        let keyring = self.key.keyring(connection, &self.prefix, timeout).await?;
        if known.is_some_and(|known| Arc::ptr_eq(&known, &keyring)) {
            return Ok(keyring);
        }
        let replaced = lock(&self.state)
            .keyring
            .replace(Arc::clone(&keyring))
            .is_some();
        if replaced {
            // Entries of the other key are no longer the fleet's.
            self.local().clear();
            lock(&self.state).last_head = None;
        }
        self.local().adopt(Arc::clone(&keyring));
        tracing::info!("The key of the shared cache was read");
        Ok(keyring)
    }

    /// Connects, repeats removals, and catches up with the journal.
    async fn connect(&self) -> Result<Session, Trouble> {
        let known = lock(&self.state).keyring.clone();
        if let (FleetKey::File(source), None) = (&self.key, known) {
            // Without the key no server is bothered.
            let source = source.clone();
            let found = kms_agent_core::run_blocking(move || source.load().map(drop)).await;
            if let Ok(Err(error)) = found {
                return Err(Trouble::new(TroubleKind::KeyMissing, error.message()));
            }
        }
        let connection = self.settings.connect(&self.clock).await?;
        let timeout = self.settings.timeout.max(Duration::from_secs(1));
        let keyring = self.keyring(&connection, timeout).await?;
        let time = self.read_time(&connection, &keyring, timeout, None).await?;
        let found = head(&connection, &keyring, timeout).await?;
        let found = if let Some(found) = found {
            found
        } else {
            begin_journal(&connection, &keyring, timeout).await?;
            head(&connection, &keyring, timeout)
                .await?
                .ok_or_else(|| Trouble::unexpected("GET of the journal"))?
        };
        let before = lock(&self.state).last_head.clone();
        let session = Session {
            connection,
            keyring,
            epoch: found.epoch.clone(),
            server_clock: time,
            origin: Arc::clone(&self.origin),
            timeout: self.settings.timeout,
            lease_time: self.lease_time,
        };
        self.catch_up(&session, before, &found).await?;
        self.make_up(&session).await?;
        Ok(session)
    }

    /// Makes the removals and announcements that the server has not taken, before anything else is read.
    async fn make_up(&self, session: &Session) -> Result<(), Trouble> {
        loop {
            let removal = lock(&self.pending).front().cloned();
            let Some(removal) = removal else {
                break;
            };
            self.make(session, &removal).await?;
            self.settle(&removal);
            if removal == OwnRemoval::Purge(Removal::Everything) {
                // The rest belongs to the epoch that this began.
                return Err(Trouble::new(
                    TroubleKind::EpochChanged,
                    "this agent purged everything",
                ));
            }
        }
        loop {
            let entry = lock(&self.unannounced).front().copied();
            let Some(entry) = entry else {
                return Ok(());
            };
            session.append(&entry, self.sequence()).await?;
            lock(&self.unannounced).pop_front();
        }
    }

    fn publish(&self, session: Session) {
        let mut state = lock(&self.state);
        state.session = Some(Arc::new(session));
        state.polled_at = self.clock.boot();
        let had_trouble = state.trouble.take().is_some();
        drop(state);
        self.connected_once.send_replace(true);
        self.wake_all();
        if had_trouble {
            tracing::info!("The shared cache server works again");
        } else {
            tracing::info!("Connected to the shared cache server");
        }
    }

    /// Reads the journal again and again. Returns why it cannot be read any more.
    async fn poll(&self) -> Trouble {
        let mut polls: u32 = 0;
        loop {
            let pause = if lock(&self.waiting).is_empty() {
                POLL_EVERY
            } else {
                POLL_WHILE_WAITING
            };
            let due_at = self.clock.boot() + pause;
            tokio::select! {
                () = self.clock.sleep_until(due_at) => {}
                () = self.broken.notified() => {}
            }
            let session = match self.current() {
                Ok(session) => session,
                Err(trouble) => return trouble,
            };
            polls = polls.wrapping_add(1);
            if let Err(trouble) = self.read_journal(&session, polls).await {
                if trouble.kind == TroubleKind::EpochChanged {
                    continue;
                }
                self.failures.fetch_add(1, Ordering::Relaxed);
                return trouble;
            }
        }
    }

    /// Returns the session, or why a call ended it.
    fn current(&self) -> Result<Arc<Session>, Trouble> {
        let state = lock(&self.state);
        state.session.clone().ok_or_else(|| {
            let trouble = state.trouble.clone();
            trouble.unwrap_or_else(|| Trouble::new(TroubleKind::KeyChanged, "the session ended"))
        })
    }

    async fn read_journal(&self, session: &Session, polls: u32) -> Result<(), Trouble> {
        let began = self.clock.boot();
        let timeout = session.timeout;
        let found = head(&session.connection, &session.keyring, timeout).await?;
        let Some(found) = found else {
            // The server was emptied. The next connection begins a journal.
            return Err(Trouble::new(
                TroubleKind::Failing,
                "the server lost the journal",
            ));
        };
        if polls.is_multiple_of(POLLS_PER_KEY)
            && !self
                .key
                .is_current(&session.connection, &self.prefix, timeout)
                .await?
        {
            return Err(Trouble::new(
                TroubleKind::KeyChanged,
                "another agent made a new data key",
            ));
        }
        let known = self.sequence();
        let mut time = session.server_clock;
        if polls.is_multiple_of(POLLS_PER_CLOCK) {
            let connection = &session.connection;
            time = self
                .read_time(connection, &session.keyring, timeout, Some(time))
                .await?;
        }
        if found.epoch == session.epoch && found.sequence == known && time == session.server_clock {
            self.make_up(session).await?;
            let mut state = lock(&self.state);
            state.polled_at = began;
            return Ok(());
        }
        let next = Arc::new(Session {
            connection: session.connection.clone(),
            keyring: Arc::clone(&session.keyring),
            epoch: found.epoch.clone(),
            server_clock: time,
            origin: Arc::clone(&self.origin),
            timeout: session.timeout,
            lease_time: session.lease_time,
        });
        // Before entries of the old epoch go: a reader that begins after they have gone must not find the old epoch.
        self.replace(&next);
        let before = Some(Head {
            epoch: session.epoch.clone(),
            sequence: known,
        });
        self.catch_up(&next, before, &found).await?;
        self.make_up(&next).await?;
        lock(&self.state).polled_at = began;
        Ok(())
    }

    /// Puts `next` in the place of the session, unless a call has ended that.
    fn replace(&self, next: &Arc<Session>) {
        let mut state = lock(&self.state);
        if state.session.is_some() {
            state.session = Some(Arc::clone(next));
        }
    }

    /// Applies what happened since `before`.
    async fn catch_up(
        &self,
        session: &Session,
        before: Option<Head>,
        found: &Head,
    ) -> Result<(), Trouble> {
        let epoch_changed = before.as_ref().is_none_or(|it| it.epoch != found.epoch);
        let known = before.map_or(0, |it| {
            if it.epoch == found.epoch {
                it.sequence
            } else {
                0
            }
        });
        let mut sequence = found.sequence;
        if epoch_changed || found.sequence != known {
            let has_lost_writes = found.sequence < known;
            let read = if has_lost_writes || found.sequence == 0 {
                None
            } else {
                session.entries(known).await?
            };
            let begins_with_purge = |entries: &[Entry]| {
                entries
                    .first()
                    .is_some_and(|entry| entry.event == Event::AllPurged)
            };
            match read {
                Some((entries, last)) => {
                    if epoch_changed && !begins_with_purge(&entries) {
                        self.doubt_all();
                    }
                    self.apply(session, &entries);
                    sequence = last;
                }
                None => self.doubt_all(),
            }
            if (epoch_changed || has_lost_writes) && self.has_history() {
                self.repeat_removals();
            }
        }
        let mut state = lock(&self.state);
        state.sequence = sequence;
        state.last_head = Some(Head {
            epoch: found.epoch.clone(),
            sequence,
        });
        Ok(())
    }

    fn has_history(&self) -> bool {
        lock(&self.state).last_head.is_some()
    }

    fn doubt_all(&self) {
        self.local().doubt_all();
        self.wake_all();
    }

    /// Puts the removals of the last minute among those that the server has still to take.
    fn repeat_removals(&self) {
        let now = self.clock.boot();
        let mut pending = lock(&self.pending);
        for (at, removal) in lock(&self.taken).drain(..) {
            // A purge of everything has begun an epoch, which the server has lost; what it removed is gone with it.
            let repeats = removal != OwnRemoval::Purge(Removal::Everything);
            if repeats && now <= at + REMOVALS_REPEATED_FOR && !pending.contains(&removal) {
                pending.push_back(removal);
            }
        }
    }

    fn apply(&self, session: &Session, entries: &[Entry]) {
        for entry in entries {
            match entry.event {
                Event::Stored { place, content } => {
                    let fetched_at = session.time().here(entry.at);
                    self.local().stored_elsewhere(place, content, fetched_at);
                    self.wake(&place);
                }
                Event::Refused { place } => {
                    let until = session.time().here_at_latest(entry.at);
                    self.local().remove_place(place, entry.at, until);
                    self.wake(&place);
                }
                Event::Purged { name } => {
                    let until = session.time().here_at_latest(entry.at);
                    self.local().remove_name(name, entry.at, until);
                }
                Event::Ended { place } => self.wake(&place),
                Event::AllPurged => {
                    self.local().clear();
                    self.wake_all();
                }
            }
        }
    }

    async fn read_time(
        &self,
        connection: &Connection,
        keyring: &Keyring,
        timeout: Duration,
        before: Option<ServerTime>,
    ) -> Result<ServerTime, Trouble> {
        let sent_at = self.boot_millis();
        let server = server_millis(connection, keyring, timeout).await?;
        let received_at = self.boot_millis();
        let least = server.saturating_sub(received_at).saturating_sub(1);
        let most = server.saturating_sub(sent_at).saturating_add(1);
        let mut valid_from = before.map_or(i64::MIN, |it| it.valid_from);
        if let Some(before) = before {
            let departed =
                least > before.most + CLOCK_JUMP_MILLIS || most < before.least - CLOCK_JUMP_MILLIS;
            if departed {
                valid_from = server;
                tracing::warn!(
                    by_ms = least - before.least,
                    "The clock of the shared cache server was set; records stored before count as expired"
                );
            } else if least <= before.most && most >= before.least {
                // The narrower of both readings holds.
                return Ok(ServerTime {
                    least: least.max(before.least),
                    most: most.min(before.most),
                    valid_from,
                });
            }
        }
        self.compare_with_wall(server);
        Ok(ServerTime {
            least,
            most,
            valid_from,
        })
    }

    fn compare_with_wall(&self, server: i64) {
        let difference = server.saturating_sub(self.clock.wall().as_millis());
        let mut state = lock(&self.state);
        let departs = difference.abs() > CLOCK_DIFFERENCE_MILLIS;
        if departs && state.clock_confirmed && !state.clock_warned {
            tracing::warn!(
                by_ms = difference,
                "The clock of the shared cache server differs from that of KMS; set it"
            );
        }
        state.clock_warned = departs && state.clock_confirmed;
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
