//! Sealed records in memory and, behind that, in a database that two threads of its own look after.
//!
//! The writing thread owns the database: it commits what waits in the queue, lists what is there, and opens it
//! again after trouble. The reading thread fetches records that memory has not got. Nothing here blocks an
//! async thread for longer than it takes to look something up in memory.

mod disk;
mod fault;
mod medium;
mod peek;
mod place;
mod reader;
mod rescue;
mod shared;
mod state;
mod tentative;
#[cfg(test)]
mod tests;
mod writer;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use kms_agent_core::backend::{BackendErrorKind, StoreStats};
use kms_agent_core::{BackendError, BackendStats, Lifetime, Resumed, Scope, Timestamp};
use tokio::sync::oneshot;

pub(crate) use self::medium::FileSystem;
pub(crate) use self::peek::peek;
pub(crate) use self::place::Place;
use self::place::{Keys, OpenFailure, share_a_folder};
use self::reader::Lookup;
use self::shared::{Progress, Shared};
use self::state::{Index, Known, State, Stop};
use self::writer::Writer;
use crate::key::RootKey;
use crate::map::Listed;
use crate::queue::Ticket;
use crate::seal::{RecordHash, SealedRecord, Sealer};

/// A running store.
#[derive(Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    lookups: mpsc::Sender<Lookup>,
}

/// A store, and what is said of it once and for all.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) store: Store,
    /// Whether anything will survive the process.
    pub(crate) is_durable: bool,
    /// What an earlier process left.
    pub(crate) resumed: Option<Resumed>,
}

impl Store {
    /// Opens the store, or starts in memory where it cannot be opened. The error says what the operator has to
    /// mend before anything can start.
    pub(crate) fn open(place: Place, capacity: NonZeroUsize) -> Result<Started, String> {
        if share_a_folder(&place.path, &place.key) {
            tracing::warn!(
                store.path = %place.path.display(),
                "The cache's key lies in the folder of its store; whoever copies that folder has both"
            );
        }
        let drawn = RootKey::random().map_err(|error| error.to_string())?;
        let opening = place.open(Keys::Drawn(&drawn));
        let (sealer, drawn) = match (&opening, place.key.load()) {
            (Ok(opened), _) => (Arc::clone(&opened.sealer), None),
            // So that what is removed before the store can be opened is removed from it then.
            (Err(_), Ok(key)) => (Arc::new(Sealer::new(&key)), None),
            (Err(_), Err(_)) => (Arc::new(Sealer::new(&drawn)), Some(drawn)),
        };
        let shared = Arc::new(Shared::new(place, State::new(capacity, sealer)));
        let mut resumed = None;
        match opening {
            Ok(opened) => {
                tracing::info!(
                    store.path = %shared.place.path.display(),
                    store.entries = opened.records,
                    "The cache's store is open"
                );
                resumed.clone_from(&opened.resumed);
                shared.install(opened);
            }
            Err(OpenFailure::Refused(message)) => return Err(message),
            Err(OpenFailure::Barred { word, message }) => shared.go_without_store(word, &message),
            Err(OpenFailure::Failed(failure)) => shared.fail(&failure),
        }
        let (lookups, asked) = mpsc::channel();
        let is_durable = shared.lock().has_store;
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

    /// What seals and opens records now. `clear` puts another one in its place.
    pub(crate) fn sealer(&self) -> Arc<Sealer> {
        Arc::clone(&self.shared.lock().sealer)
    }

    /// The record at `place`, from memory or from the store.
    pub(crate) async fn find(&self, place: &RecordHash, now: Timestamp) -> Option<SealedRecord> {
        let known = {
            let mut state = self.shared.lock();
            state.learn_time(now, &*self.shared.place.clock);
            state.find(place)
        };
        match known {
            Known::Here(record) => Some(record),
            Known::Nothing => None,
            Known::Ask => {
                let (answer, answered) = oneshot::channel();
                let lookup = Lookup {
                    place: *place,
                    answer,
                };
                self.lookups.send(lookup).ok()?;
                answered.await.ok().flatten()
            }
        }
    }

    /// Takes a record. False: `sealer` is not the sealer any more.
    pub(crate) fn hold(
        &self,
        sealer: &Arc<Sealer>,
        place: RecordHash,
        record: SealedRecord,
        lifetime: &Lifetime,
        scope: &Arc<Scope>,
    ) -> bool {
        let mut state = self.shared.lock();
        if !Arc::ptr_eq(&state.sealer, sealer) {
            return false;
        }
        state.use_scope(scope);
        state.hold(place, record, lifetime);
        drop(state);
        self.shared.wake();
        true
    }

    /// Drops a record that turned out to be damaged.
    pub(crate) fn discard(&self, sealer: &Arc<Sealer>, place: &RecordHash) {
        let mut state = self.shared.lock();
        // After a purge a record may have been read that nobody has the key of any more.
        if Arc::ptr_eq(&state.sealer, sealer) {
            state.remove(place);
            drop(state);
            self.shared.wake();
            shared::log_damaged_record();
        }
    }

    /// Drops a record, durably when it returns. False: `sealer` is not the sealer any more.
    pub(crate) async fn remove(
        &self,
        sealer: &Arc<Sealer>,
        place: &RecordHash,
    ) -> Result<bool, BackendError> {
        let ticket = {
            let mut state = self.shared.lock();
            if !Arc::ptr_eq(&state.sealer, sealer) {
                return Ok(false);
            }
            let ticket = state.remove(place);
            state.attempt |= ticket.is_some();
            ticket
        };
        match ticket {
            Some(ticket) => self
                .durable(ticket, "removing an entry")
                .await
                .map(|()| true),
            None => Ok(true),
        }
    }

    /// Drops everything, durably when it returns.
    pub(crate) async fn clear(&self) -> Result<(), BackendError> {
        let ticket = {
            let mut state = self.shared.lock();
            let ticket = state.clear();
            state.attempt |= ticket.is_some();
            ticket
        };
        match ticket {
            Some(ticket) => self.durable(ticket, "removing all entries").await,
            None => Ok(()),
        }
    }

    /// Waits until everything asked for so far is durable.
    pub(crate) async fn flush(&self) -> Result<(), BackendError> {
        let ticket = {
            let mut state = self.shared.lock();
            let works = state.is_open && state.trouble.is_none() && state.fault.is_none();
            if !state.has_store || (state.queue.is_empty() && works) {
                return Ok(());
            }
            state.attempt = true;
            state.queue.issue()
        };
        self.durable(ticket, "flushing").await
    }

    async fn durable(&self, ticket: Ticket, what: &'static str) -> Result<(), BackendError> {
        self.shared.wake();
        let settled = |progress: &Progress| {
            progress.durable >= ticket || progress.failed >= ticket || progress.closed
        };
        if self.shared.progress(settled).await.durable >= ticket {
            Ok(())
        } else {
            Err(BackendError::new(BackendErrorKind::Unavailable, what))
        }
    }

    /// At most `limit` records after `from`, or their beginnings, once it is known which ones there are.
    pub(crate) async fn page(
        &self,
        from: Option<&RecordHash>,
        limit: NonZeroUsize,
    ) -> Result<Vec<Listed>, BackendError> {
        let settled =
            |progress: &Progress| progress.indexed || progress.troubled || progress.closed;
        self.shared.progress(settled).await;
        let state = self.shared.lock();
        if state.index == Index::Complete {
            Ok(state.map.page(from, limit))
        } else {
            // To say that there is nothing would be taken for the truth by who wants to purge it.
            Err(BackendError::new(
                BackendErrorKind::Unavailable,
                "listing the store's entries",
            ))
        }
    }

    pub(crate) fn stats(&self) -> BackendStats {
        let state = self.shared.lock();
        BackendStats {
            entries: state.entries(),
            capacity: state.map.capacity().get(),
            store: Some(StoreStats {
                path: self.path().to_owned(),
                bytes: state.bytes,
                trouble: state.trouble.map(|trouble| trouble.word),
                failures: state.failures,
                committed_at: state.committed_at,
            }),
        }
    }

    pub(crate) fn sweep(&self, now: Timestamp) {
        let mut state = self.shared.lock();
        state.learn_time(now, &*self.shared.place.clock);
        state.sweep(now);
        drop(state);
        self.shared.wake();
    }

    /// Writes what waits to be written and lets go of the store. The error: something that was removed may be
    /// in it still.
    pub(crate) async fn close(&self) -> Result<(), BackendError> {
        {
            let mut state = self.shared.lock();
            if !state.has_store {
                state.map.clear();
                return Ok(());
            }
            state.attempt = true;
            state.look = true;
            state.stop = Some(Stop::Close);
        }
        self.shared.wake();
        let progress = self.shared.progress(|progress| progress.closed).await;
        if progress.lost_removals {
            Err(BackendError::new(
                BackendErrorKind::Unavailable,
                "removing entries before closing",
            ))
        } else {
            Ok(())
        }
    }

    fn path(&self) -> &Path {
        &self.shared.place.path
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.lock().stop.get_or_insert(Stop::Abandon);
        self.shared.wake();
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|error| format!("the thread {name} cannot be started: {error}"))
}
