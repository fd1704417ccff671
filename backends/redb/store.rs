//! Sealed records in memory and, behind that, in a database with two threads of its own.
//!
//! The writer thread owns the database: it commits the queue, lists and verifies the records, and reopens the database
//! after a failure. The reader thread fetches records that are not in memory. Nothing here blocks an async thread for
//! longer than a look-up in memory takes.

pub(crate) mod fault;
mod file;
mod lifecycle;
mod shared;
mod state;
#[cfg(test)]
mod tests;
mod time;
mod worker;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use kms_agent_core::backend::{BackendErrorKind, StoreStats};
use kms_agent_core::registry::OpenError;
use kms_agent_core::{
    BackendError, BackendStats, Lifetime, Resumed, Scope, Timestamp, run_blocking, shortage,
};
use kms_agent_sealed::key::RootKey;
use kms_agent_sealed::map::Listed;
use kms_agent_sealed::seal::{RecordHash, SealedRecord, Sealer};
use tokio::sync::oneshot;

pub(crate) use self::file::{
    FileSystem, Inspection, StoreLocation, check_distinct, inspect, key_mismatch_message, kind_of,
    read_last_scope,
};
use self::file::{Keys, OpenFailure, share_a_folder};
use self::shared::{Progress, Shared};
use self::state::{Known, State};
use self::worker::reader::{self, Lookup};
use self::worker::writer::Writer;
use crate::queue::Ticket;

/// Longest time that shutdown waits for compaction.
const COMPACTION_TIMEOUT: Duration = Duration::from_secs(3);

/// A running store.
#[derive(Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    lookups: mpsc::Sender<Lookup>,
}

/// Store with the facts that are known once it has started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) store: Store,
    /// Whether entries survive the process.
    pub(crate) is_durable: bool,
    /// State that the previous process left.
    pub(crate) resumed: Option<Resumed>,
}

impl Store {
    /// Opens the store, or starts in memory if it cannot be opened. The error names what the operator has to fix before
    /// the agent can start, or the resource that is short.
    pub(crate) fn open(
        location: StoreLocation,
        capacity: NonZeroUsize,
    ) -> Result<Started, OpenError> {
        check_distinct(&location.path, &location.key).map_err(OpenError::configuration)?;
        if share_a_folder(&location.path, &location.key) {
            tracing::warn!(
                store.path = %location.path.display(),
                "The cache's key is in the folder of its store; a copy of that folder has both"
            );
        }
        let drawn = RootKey::random().map_err(|error| {
            OpenError::shortage(format!("cannot draw a key for the cache: {error}"))
        })?;
        let opening = location.open(Keys::Drawn(&drawn));
        let (sealer, drawn) = match (&opening, location.key.load()) {
            (Ok(opened), _) => (Arc::clone(&opened.sealer), None),
            // An entry that is removed before the store opens can then be removed from it later.
            (Err(_), Ok(key)) => (Arc::new(Sealer::new(&key)), None),
            (Err(_), Err(_)) => (Arc::new(Sealer::new(&drawn)), Some(drawn)),
        };
        let shared = Arc::new(Shared::new(location, State::new(capacity, sealer)));
        let mut resumed = None;
        match opening {
            Ok(opened) => {
                tracing::info!(
                    store.path = %shared.location.path.display(),
                    store.entries = opened.records,
                    "The cache's store is open"
                );
                resumed.clone_from(&opened.resumed);
                shared.install(opened);
            }
            Err(OpenFailure::Refused(message)) => return Err(OpenError::configuration(message)),
            Err(OpenFailure::Barred { word, message }) => shared.give_up(word, &message),
            Err(OpenFailure::Failed(failure)) => shared.fail(&failure),
        }
        let (lookups, asked) = mpsc::channel();
        let is_durable = shared.lock().lifecycle.has_store();
        if is_durable {
            start("kms-store-read", {
                let shared = Arc::clone(&shared);
                move || reader::run(&shared, &asked)
            })?;
            start("kms-store-write", {
                let shared = Arc::clone(&shared);
                move || Writer::new(shared, drawn).run()
            })?;
        }
        Ok(Started {
            store: Self { shared, lookups },
            is_durable,
            resumed,
        })
    }

    /// Returns the sealer in use. `clear` replaces it.
    pub(crate) fn sealer(&self) -> Arc<Sealer> {
        Arc::clone(&self.shared.lock().sealer)
    }

    /// Returns the record at `hash`, from memory or from the store.
    pub(crate) async fn find(&self, hash: &RecordHash, now: Timestamp) -> Option<SealedRecord> {
        let known = {
            let mut state = self.shared.lock();
            state.time.learn(now, &*self.shared.location.clock);
            state.find(hash)
        };
        match known {
            Known::Here(record) => Some(record),
            Known::Nothing => None,
            Known::Ask => {
                let (answer, answered) = oneshot::channel();
                let lookup = Lookup {
                    hash: *hash,
                    answer,
                };
                self.shared.lock().lookups += 1;
                self.lookups.send(lookup).ok()?;
                answered.await.ok().flatten()
            }
        }
    }

    /// Stores a record. False: `sealer` was replaced.
    pub(crate) fn hold(
        &self,
        sealer: &Arc<Sealer>,
        hash: RecordHash,
        record: SealedRecord,
        lifetime: &Lifetime,
        scope: &Arc<Scope>,
    ) -> bool {
        let mut state = self.shared.lock();
        if !Arc::ptr_eq(&state.sealer, sealer) {
            return false;
        }
        state.use_scope(scope);
        state.hold(hash, record, lifetime);
        drop(state);
        self.shared.wake();
        true
    }

    /// Removes a damaged record.
    pub(crate) fn discard(&self, sealer: &Arc<Sealer>, hash: &RecordHash) {
        let mut state = self.shared.lock();
        // A record that was read before a purge cannot be opened with the new key, and is not damaged.
        if Arc::ptr_eq(&state.sealer, sealer) {
            state.remove(hash);
            drop(state);
            self.shared.wake();
            self.shared.note_damaged_record();
        }
    }

    /// Removes a record, durably when it returns. False: `sealer` was replaced.
    pub(crate) async fn remove(
        &self,
        sealer: &Arc<Sealer>,
        hash: &RecordHash,
    ) -> Result<bool, BackendError> {
        let ticket = {
            let mut state = self.shared.lock();
            if !Arc::ptr_eq(&state.sealer, sealer) {
                return Ok(false);
            }
            let ticket = state.withdraw(hash);
            if ticket.is_some() {
                state.lifecycle.hurry();
            }
            within_reach(&state)?;
            ticket
        };
        match ticket {
            Some(ticket) => self.gone(ticket, "removing an entry").await.map(|()| true),
            None => Ok(true),
        }
    }

    /// Removes all records, durably when it returns.
    pub(crate) async fn clear(&self) -> Result<(), BackendError> {
        let (ticket, reach, dropped) = {
            let mut state = self.shared.lock();
            let (ticket, dropped) = state.clear();
            if ticket.is_some() {
                state.lifecycle.hurry();
            }
            let reach = within_reach(&state);
            (ticket, reach, dropped)
        };
        // Wiping and freeing many records takes a while.
        let _ = run_blocking(move || drop(dropped)).await;
        reach?;
        match ticket {
            Some(ticket) => self.gone(ticket, "removing all entries").await,
            None => Ok(()),
        }
    }

    /// Waits until all requests so far are durable.
    pub(crate) async fn flush(&self) -> Result<(), BackendError> {
        let ticket = {
            let mut state = self.shared.lock();
            let is_written = state.queue.is_empty() && state.lifecycle.works();
            if !state.lifecycle.has_store() || is_written {
                return Ok(());
            }
            state.lifecycle.hurry();
            state.queue.issue()
        };
        let is_durable = move |progress: &Progress| progress.durable >= ticket;
        self.settled(ticket, is_durable, "flushing").await
    }

    /// Waits until the removed records are in no store any more.
    async fn gone(&self, ticket: Ticket, what: &'static str) -> Result<(), BackendError> {
        let is_gone =
            move |progress: &Progress| progress.durable >= ticket || progress.gone >= ticket;
        self.settled(ticket, is_gone, what).await
    }

    async fn settled(
        &self,
        ticket: Ticket,
        is_done: impl Fn(&Progress) -> bool,
        what: &'static str,
    ) -> Result<(), BackendError> {
        self.shared.wake();
        let settled =
            |progress: &Progress| is_done(progress) || progress.failed >= ticket || progress.closed;
        if is_done(&self.shared.progress(settled).await) {
            Ok(())
        } else {
            Err(BackendError::new(BackendErrorKind::Unavailable, what))
        }
    }

    /// Returns at most `limit` records after `from`, or their headers, once the listing has come that far.
    pub(crate) async fn page(
        &self,
        from: Option<&RecordHash>,
        limit: NonZeroUsize,
    ) -> Result<Vec<Listed>, BackendError> {
        let mut progress = self.shared.watch();
        loop {
            let now = *progress.borrow_and_update();
            if let Some(page) = self.shared.lock().page(from, limit) {
                return Ok(page);
            }
            if now.troubled || now.closed || progress.changed().await.is_err() {
                // A purge would take an empty page for the truth.
                return Err(BackendError::new(
                    BackendErrorKind::Unavailable,
                    "listing the store's entries",
                ));
            }
        }
    }

    pub(crate) fn stats(&self) -> BackendStats {
        let state = self.shared.lock();
        BackendStats {
            entries: state.entries(),
            capacity: state.map.capacity().get(),
            store: Some(StoreStats {
                path: self.path().to_owned(),
                bytes: Some(state.bytes),
                trouble: state.lifecycle.trouble(),
                failures: state.lifecycle.failures(),
                committed_at: state.committed_at,
            }),
        }
    }

    pub(crate) async fn sweep(&self, now: Timestamp) {
        let clock = &*self.shared.location.clock;
        let now = {
            let mut state = self.shared.lock();
            state.time.learn(now, clock);
            state.time.certain(now, clock)
        };
        loop {
            let has_more = self.shared.lock().sweep_some(now);
            if !has_more {
                break;
            }
            tokio::task::yield_now().await;
        }
        self.shared.lock().end_sweep();
        self.shared.wake();
        self.shared.log_damaged_records();
    }

    pub(crate) fn confirm_clock(&self) {
        self.shared.lock().time.confirm_clock();
    }

    /// Writes the queue and closes the store. The error: the store may still hold removed entries.
    pub(crate) async fn close(&self) -> Result<(), BackendError> {
        {
            let mut state = self.shared.lock();
            if !state.lifecycle.has_store() {
                state.map.clear();
                return Ok(());
            }
            state.lifecycle.close();
        }
        self.shared.wake();
        let progress = self.shared.progress(|progress| progress.written).await;
        self.shared.log_damaged_records();
        let clock = &self.shared.location.clock;
        // Only compaction is left. If it is cut off, the store stays as it was.
        tokio::select! {
            _ = self.shared.progress(|progress| progress.closed) => {}
            () = clock.sleep_until(clock.boot() + COMPACTION_TIMEOUT) => tracing::debug!(
                "Compacting the cache's store took too long; skipped"
            ),
        }
        if progress.owes_removals {
            let trouble = self.shared.lock().lifecycle.trouble().unwrap_or("busy");
            let path = self.path().display();
            Err(BackendError::new(
                BackendErrorKind::Unavailable,
                "closing before removed entries are gone",
            )
            .with_cause(format!(
                "the store {path} could not be written ({trouble}) and still holds entries that were purged or \
                 that KMS refused; remove that file before the next start, or purge again after it"
            )))
        } else {
            Ok(())
        }
    }

    fn path(&self) -> &Path {
        &self.shared.location.path
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.lock().lifecycle.abandon();
        self.shared.wake();
    }
}

/// Fails if the store may hold an entry that was removed from memory.
fn within_reach(state: &State) -> Result<(), BackendError> {
    if state.lifecycle.out_of_reach() {
        Err(BackendError::new(
            BackendErrorKind::Unavailable,
            "the store may still hold the removed entry, and serve it after a restart with its key",
        ))
    } else {
        Ok(())
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|error| {
            OpenError::shortage(format!(
                "the thread {name} cannot be started: {error}. {}",
                shortage::remedy(&error)
            ))
        })
}
