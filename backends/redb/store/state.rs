//! State of the store under its lock, and the decisions that need no waiting.

use std::num::NonZeroUsize;
use std::sync::Arc;

use kms_agent_core::{Clock, Lifetime, Resumed, Scope, Timestamp};
use kms_agent_sealed::map::{Found, Listed, SealedMap};
use kms_agent_sealed::record::{self, Header};
use kms_agent_sealed::seal::{RESUMED, RecordHash, SealedRecord, Sealer, scrub_stack};

use super::fault::Failure;
use super::file::FileId;
use super::lifecycle::{Access, Lifecycle};
use super::time::Time;
use crate::queue::{Queue, Ticket, Write};

/// Waiting writes allowed beyond two a record while the store takes none. Above that the store is rewritten as a whole
/// when it is back.
const SPARE_WRITES: usize = 1024;

/// Most records that a sweep drops before it yields to other tasks.
const SWEPT_AT_ONCE: usize = 128;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) map: SealedMap,
    pub(crate) queue: Queue,
    /// Scope last used.
    scope: Option<Arc<Scope>>,
    pub(crate) time: Time,
    pub(crate) index: Index,
    /// Record that the reader thread is fetching. A write to that record clears this, so that the outdated read is dropped.
    pub(crate) loading: Option<RecordHash>,
    /// Look-ups that wait for the store; other work gives way to them.
    pub(crate) lookups: usize,
    pub(crate) lifecycle: Lifecycle,
    /// Size of the store.
    pub(crate) bytes: u64,
    /// Entries put before this moment are durable.
    pub(crate) committed_at: Option<Timestamp>,
}

/// Progress of the listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Index {
    /// All records are listed.
    Complete,
    /// Records up to this one are listed; about `left` remain.
    Reading {
        after: Option<RecordHash>,
        left: u64,
    },
}

/// Result of a look-up in memory.
#[derive(Debug)]
pub(crate) enum Known {
    Here(SealedRecord),
    /// The store has it, or may have it.
    Ask,
    Nothing,
}

impl State {
    /// Creates the state of a store that is not open yet.
    pub(crate) fn new(capacity: NonZeroUsize, sealer: Arc<Sealer>) -> Self {
        Self {
            sealer,
            map: SealedMap::new(capacity),
            queue: Queue::default(),
            scope: None,
            time: Time::default(),
            index: Index::Reading {
                after: None,
                left: 0,
            },
            loading: None,
            lookups: 0,
            lifecycle: Lifecycle::default(),
            bytes: 0,
            committed_at: None,
        }
    }

    /// Looks up a record.
    pub(crate) fn find(&mut self, hash: &RecordHash) -> Known {
        match self.map.find(hash) {
            Some(Found::Here(record)) => return Known::Here(record),
            // A waiting write of a record that is not in memory is a removal.
            None if self.index == Index::Complete || self.queue.waiting(hash).is_some() => {
                return Known::Nothing;
            }
            Some(Found::Stored) | None => {}
        }
        if self.lifecycle.is_open() && !self.queue.is_emptying() {
            Known::Ask
        } else {
            Known::Nothing
        }
    }

    /// Stores a record, sealed by the current sealer.
    pub(crate) fn hold(&mut self, hash: RecordHash, record: SealedRecord, lifetime: &Lifetime) {
        self.time.heard_of(lifetime.fetched_at);
        self.map.hold(hash, Arc::clone(&record), lifetime);
        self.written(hash, Write::Put(record));
        self.evict();
    }

    /// Takes a record read from the store into memory.
    pub(crate) fn load(&mut self, hash: RecordHash, record: SealedRecord, lifetime: &Lifetime) {
        self.map.hold(hash, record, lifetime);
        self.evict();
    }

    /// Notes the scope for the next process.
    pub(crate) fn use_scope(&mut self, scope: &Arc<Scope>) {
        if self.scope.as_ref() != Some(scope) {
            self.scope = Some(Arc::clone(scope));
        }
    }

    /// Returns the sealed note for the next process.
    pub(crate) fn resumed(&self, clock: &dyn Clock) -> Option<SealedRecord> {
        let resumed = self.time.resumed(Arc::clone(self.scope.as_ref()?), clock);
        // Sealing fails only without random numbers, and then no record was stored.
        self.sealer
            .seal(&RESUMED, &record::encode_resumed(&resumed), &[])
            .ok()
    }

    /// Removes a record that must not come back.
    pub(crate) fn withdraw(&mut self, hash: &RecordHash) -> Option<Ticket> {
        let ticket = self.remove(hash)?;
        Some(self.queue.withdraw(ticket))
    }

    /// Removes a record. `None`: the store does not have it, so there is nothing to wait for.
    pub(crate) fn remove(&mut self, hash: &RecordHash) -> Option<Ticket> {
        let may_be_stored = self.map.remove(hash)
            || self.index != Index::Complete
            || self.queue.waiting(hash).is_some();
        (may_be_stored && self.lifecycle.has_store()).then(|| self.written(*hash, Write::Remove))
    }

    fn written(&mut self, hash: RecordHash, write: Write) -> Ticket {
        if self.loading == Some(hash) {
            self.loading = None;
        }
        if !self.lifecycle.has_store() {
            return self.queue.issued();
        }
        let ticket = self.queue.push(hash, write);
        if self.queue.len() > 2 * self.map.capacity().get() + SPARE_WRITES {
            self.rewrite();
        }
        ticket
    }

    /// Requests that the store become exactly what is in memory.
    pub(crate) fn rewrite(&mut self) -> Ticket {
        self.map.forget_stored();
        self.index = Index::Complete;
        self.loading = None;
        self.queue.rewrite(self.map.held())
    }

    /// Removes all records and returns them, for the caller to drop without the lock.
    pub(crate) fn clear(&mut self) -> (Option<Ticket>, SealedMap) {
        let dropped = self.map.take();
        self.scope = None;
        let ticket = self.lifecycle.has_store().then(|| {
            self.lifecycle.request_replacement();
            let ticket = self.rewrite();
            self.queue.withdraw(ticket)
        });
        (ticket, dropped)
    }

    pub(crate) fn evict(&mut self) {
        while let Some(hash) = self.map.evict() {
            self.written(hash, Write::Remove);
        }
    }

    /// Removes some of the records that are dead at `now`. Returns whether there are more.
    pub(crate) fn sweep_some(&mut self, now: Timestamp) -> bool {
        let dead = self.map.dead(now, SWEPT_AT_ONCE);
        for hash in &dead {
            self.remove(hash);
        }
        dead.len() == SWEPT_AT_ONCE
    }

    /// Evicts records over capacity and counts the sweep.
    pub(crate) fn end_sweep(&mut self) {
        self.evict();
        self.lifecycle.swept();
    }

    /// Takes over the contents of an opened store. A new store gets everything that is in memory.
    pub(crate) fn opened(&mut self, sealer: &Arc<Sealer>, file: FileId, found: Stored) {
        if self.sealer.id() != sealer.id() {
            self.reseal(sealer);
        }
        let access = match &found {
            Stored::Nothing => Access::Writable,
            Stored::Records { read_only, .. } => read_only
                .clone()
                .map_or(Access::Unverified, Access::ReadOnly),
        };
        let is_strange = self.lifecycle.opened(file, access);
        match found {
            Stored::Nothing => {
                self.map.forget_stored();
                self.queue.clear();
                self.queue.forgive();
                self.index = Index::Complete;
                self.loading = None;
                for (hash, record) in self.map.held() {
                    self.queue.push(hash, Write::Put(record));
                }
                self.queue.restore();
            }
            Stored::Records { count, resumed, .. } => {
                if let Some(resumed) = resumed {
                    self.scope.get_or_insert(Arc::clone(&resumed.scope));
                    self.time.found(resumed, self.lifecycle.openings() == 1);
                }
                if is_strange {
                    let ticket = self.rewrite();
                    self.queue.withdraw(ticket);
                    self.queue.restore();
                } else if let Index::Reading { after: None, left } = &mut self.index {
                    *left = count;
                }
            }
        }
    }

    /// Reseals the records in memory under the store's current key.
    fn reseal(&mut self, sealer: &Arc<Sealer>) {
        let old = std::mem::replace(&mut self.sealer, Arc::clone(sealer));
        let held: Vec<_> = self.map.held().collect();
        self.map.clear();
        self.queue.clear();
        self.loading = None;
        for (hash, record) in held {
            // A record that does not open is lost.
            if let Some((hash, record, lifetime)) = resealed(&old, sealer, &hash, &record) {
                self.map.hold(hash, record, &lifetime);
            }
        }
    }

    /// Takes over the empty store of a purge, which may have a new key.
    pub(crate) fn replaced(&mut self, sealer: &Arc<Sealer>, file: FileId) {
        // Entries put since the purge are dropped too.
        self.map.clear();
        self.scope = None;
        self.time.forget_before();
        self.lifecycle.replacement_ended();
        self.opened(sealer, file, Stored::Nothing);
    }

    /// Goes on without a store until the process ends.
    pub(crate) fn without_store(&mut self, word: &'static str, out_of_reach: bool) {
        self.lifecycle.given_up(word, out_of_reach);
        self.queue.clear();
        self.map.forget_stored();
        self.index = Index::Complete;
        self.loading = None;
    }

    /// Returns at most `limit` records after `from`, or their headers. `None`: not listed yet.
    pub(crate) fn page(
        &self,
        from: Option<&RecordHash>,
        limit: NonZeroUsize,
    ) -> Option<Vec<Listed>> {
        let page = self.map.page(from, limit);
        let is_known = match self.index {
            Index::Complete => true,
            Index::Reading { after, .. } => {
                let last = page.last().map(|listed| listed.hash);
                page.len() == limit.get() && last <= after
            }
        };
        is_known.then_some(page)
    }

    /// Approximate number of records.
    pub(crate) fn entries(&self) -> usize {
        let unlisted = match self.index {
            Index::Complete => 0,
            Index::Reading { left, .. } => usize::try_from(left).unwrap_or(usize::MAX),
        };
        self.map.len().saturating_add(unlisted)
    }
}

/// Contents of a store when it was opened.
#[derive(Debug)]
pub(crate) enum Stored {
    /// Just created.
    Nothing,
    Records {
        count: u64,
        resumed: Option<Resumed>,
        /// Reason that the file cannot be written.
        read_only: Option<Failure>,
    },
}

/// Reseals a record of `old` with `new`.
fn resealed(
    old: &Sealer,
    new: &Sealer,
    hash: &RecordHash,
    record: &[u8],
) -> Option<(RecordHash, SealedRecord, Lifetime)> {
    let header = old.open_header(hash, record).ok()?;
    let decoded = Header::decode(&header)?;
    let hash_now = new.hash(&decoded.key()?);
    let value = old.open_value(hash, record).ok()?;
    let record = new.seal(&hash_now, &header, &value);
    drop(value);
    scrub_stack();
    Some((hash_now, record.ok()?, decoded.lifetime))
}
