//! Store shared by callers and its two threads, and the waiting between them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use kms_agent_sealed::seal::Sealer;
use tokio::sync::watch;

use super::fault::{Failure, Fault};
use super::file::disk::Disk;
use super::file::{Opened, StoreLocation};
use super::state::{State, Stored};
use crate::queue::Ticket;

pub(crate) struct Shared {
    pub(crate) location: StoreLocation,
    /// Locked briefly, and never during a call into the database.
    state: Mutex<State>,
    /// Wakes the writer thread.
    woken: Condvar,
    /// Read-locked while in use, for writes too; write-locked to replace it.
    disk: RwLock<Option<Disk>>,
    /// Progress of the writer thread, for callers that wait for it.
    progress: watch::Sender<Progress>,
    /// Damaged records not logged yet. Callers choose which records are read, so one line counts many.
    damaged: AtomicU64,
}

/// Progress of the writer thread.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Last ticket up to which everything is durable.
    pub(crate) durable: Ticket,
    /// Last ticket up to which everything is durable or has failed.
    pub(crate) failed: Ticket,
    /// Last ticket up to which every removal is done because there is no store.
    pub(crate) gone: Ticket,
    pub(crate) troubled: bool,
    /// Everything that could be written is; the rest of the shutdown may be cut off.
    pub(crate) written: bool,
    pub(crate) closed: bool,
    /// The store still holds removed entries and will not be written again.
    pub(crate) owes_removals: bool,
}

impl Shared {
    pub(crate) fn new(location: StoreLocation, state: State) -> Self {
        Self {
            location,
            state: Mutex::new(state),
            woken: Condvar::new(),
            disk: RwLock::new(None),
            progress: watch::Sender::default(),
            damaged: AtomicU64::new(0),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the writer thread.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }

    /// Waits until [`wake`](Self::wake) is called.
    pub(crate) fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.woken
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `calm` holds, but no longer than `limit`.
    pub(crate) fn wait_while<'a>(
        &self,
        state: MutexGuard<'a, State>,
        limit: Duration,
        calm: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        self.woken
            .wait_timeout_while(state, limit, |state| calm(state))
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// Notes that a look-up was answered.
    pub(crate) fn looked_up(&self) {
        self.lock().lookups -= 1;
        self.wake();
    }

    /// Subscribes to the writer thread's progress.
    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Waits until `settled` holds for the writer thread's progress.
    pub(crate) async fn progress(&self, settled: impl Fn(&Progress) -> bool) -> Progress {
        let mut progress = self.progress.subscribe();
        // The sender lives as long as `self`, so the wait cannot fail.
        progress
            .wait_for(settled)
            .await
            .map_or_else(|_| Progress::default(), |progress| *progress)
    }

    /// Publishes the progress to all waiting callers.
    pub(crate) fn publish(&self, state: &State) {
        self.progress.send_modify(|progress| {
            progress.durable = state.queue.durable();
            progress.troubled = state.lifecycle.trouble().is_some();
        });
    }

    /// Publishes that the store is closed.
    pub(crate) fn publish_closed(&self, state: &State) {
        self.publish_written(state);
        self.progress.send_modify(|progress| progress.closed = true);
    }

    /// Publishes that nothing more will be written.
    pub(crate) fn publish_written(&self, state: &State) {
        self.progress.send_modify(|progress| {
            progress.written = true;
            progress.owes_removals = state.queue.owes_removals() && self.location.file().is_some();
        });
    }

    /// Counts a damaged record for the log.
    pub(crate) fn note_damaged_record(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    /// Logs the number of damaged records since the last call.
    pub(crate) fn log_damaged_records(&self) {
        let records = self.damaged.swap(0, Ordering::Relaxed);
        if records > 0 {
            tracing::warn!(records, "Damaged records of the cache's store were removed");
        }
    }

    /// Calls into the open store. `None`: none is open.
    pub(crate) fn with_disk<T>(
        &self,
        question: impl FnOnce(&Disk) -> Result<T, Fault>,
    ) -> Option<Result<T, Fault>> {
        let disk = self.disk.read().unwrap_or_else(PoisonError::into_inner);
        disk.as_ref().map(question)
    }

    /// Takes the store out once it is not in use.
    pub(crate) fn take_disk(&self) -> Option<Disk> {
        self.lock().lifecycle.closed();
        self.put_disk(None)
    }

    fn put_disk(&self, disk: Option<Disk>) -> Option<Disk> {
        let mut slot = self.disk.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *slot, disk)
    }

    /// Closes the store.
    pub(crate) fn close_disk(&self) {
        if let Some(disk) = self.take_disk()
            && let Err(fault) = disk.close()
        {
            tracing::debug!(?fault, "The store could not be closed properly");
        }
    }

    /// Takes an opened store into use.
    pub(crate) fn install(&self, opened: Opened) {
        let file = opened.file;
        let read_only = opened.disk.read_only_cause().cloned();
        let (sealer, found) = self.accept(opened);
        let bytes = self.location.bytes();
        let mut state = self.lock();
        state.opened(&sealer, file, found);
        state.time.go_on_at(self.location.clock.boot());
        state.bytes = bytes;
        self.publish(&state);
        let is_news = state.lifecycle.trouble().is_none();
        drop(state);
        if let Some(failure) = read_only.filter(|_| is_news) {
            self.fail(&failure);
        }
    }

    /// Takes the empty store of a purge into use.
    pub(crate) fn install_replacement(&self, opened: Opened) {
        let file = opened.file;
        let (sealer, _) = self.accept(opened);
        let bytes = self.location.bytes();
        let mut state = self.lock();
        state.replaced(&sealer, file);
        state.bytes = bytes;
        state.committed_at = Some(self.location.clock.wall());
        self.publish(&state);
    }

    fn accept(&self, opened: Opened) -> (Arc<Sealer>, Stored) {
        let found = if opened.is_new {
            Stored::Nothing
        } else {
            Stored::Records {
                count: opened.records,
                resumed: opened.resumed,
                read_only: opened.disk.read_only_cause().cloned(),
            }
        };
        if let Some(old) = self.put_disk(Some(opened.disk)) {
            // The replaced store was still open; a failure to close it loses nothing.
            let _ = old.close();
        }
        (opened.sealer, found)
    }

    /// Notes that the file is gone for good, and all removed entries with it.
    pub(crate) fn gone(&self) {
        let mut state = self.lock();
        state.queue.forgive();
        self.progress
            .send_modify(|progress| progress.gone = state.queue.issued());
    }

    /// Notes that the medium failed. Logged once until it works again.
    pub(crate) fn fail(&self, failure: &Failure) {
        let mut state = self.lock();
        let is_news = state.lifecycle.failed(failure.word);
        self.progress.send_modify(|progress| {
            progress.failed = state.queue.issued();
            progress.troubled = true;
        });
        drop(state);
        if is_news {
            tracing::warn!(
                store.path = %self.location.path.display(),
                trouble = failure.word,
                cause = failure.cause.as_str(),
                "The cache's store failed; continuing in memory and retrying"
            );
        }
    }

    /// Goes on without the store: only the operator can fix the cause.
    pub(crate) fn give_up(&self, word: &'static str, message: &str) {
        let bytes = self.location.bytes();
        let mut state = self.lock();
        state.without_store(word, bytes > 0);
        state.bytes = bytes;
        self.publish(&state);
        self.publish_closed(&state);
        drop(state);
        tracing::error!(
            store.path = %self.location.path.display(),
            trouble = word,
            cause = message,
            "The cache's store is left as it is; until the agent is restarted the cache lives in memory only"
        );
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("path", &self.location.path)
            .finish_non_exhaustive()
    }
}
