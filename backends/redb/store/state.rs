//! What the threads of the store share, and the decisions on it that need no waiting.

use std::num::NonZeroUsize;
use std::sync::Arc;

use kms_agent_core::{Clock, Lifetime, Resumed, Scope, Timestamp};
use kms_agent_sealed::map::{Found, Listed, SealedMap};
use kms_agent_sealed::record::{self, Header};
use kms_agent_sealed::seal::{RESUMED, RecordHash, SealedRecord, Sealer};

use super::fault::Failure;
use super::file::FileId;
use super::lifecycle::{Access, Lifecycle};
use super::time::Time;
use crate::queue::{Queue, Ticket, Write};

/// How many removals beyond two for each record may wait for a store that does not take them. Then it is
/// emptied as a whole when it comes back.
const SPARE_WRITES: usize = 1024;

/// How many records are dropped before other tasks have their turn.
const SWEPT_AT_ONCE: usize = 128;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) map: SealedMap,
    pub(crate) queue: Queue,
    /// The scope last used.
    scope: Option<Arc<Scope>>,
    pub(crate) time: Time,
    pub(crate) index: Index,
    /// The record that the reading thread is fetching. Whoever writes that record meanwhile takes it out of
    /// here, so that what was read is not taken for what is.
    pub(crate) loading: Option<RecordHash>,
    /// How many look-ups wait for the store. Whatever can wait gives way to them.
    pub(crate) lookups: usize,
    pub(crate) lifecycle: Lifecycle,
    /// The size of the store.
    pub(crate) bytes: u64,
    /// What was put before this moment is durable.
    pub(crate) committed_at: Option<Timestamp>,
}

/// How far the store's records are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Index {
    /// All of them.
    Complete,
    /// Those up to this one; about so many are left.
    Reading {
        after: Option<RecordHash>,
        left: u64,
    },
}

/// What a look-up came to.
#[derive(Debug)]
pub(crate) enum Known {
    Here(SealedRecord),
    /// The store has it, or may have it.
    Ask,
    Nothing,
}

impl State {
    /// For a store that is yet to be opened.
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

    /// Looks a record up.
    pub(crate) fn find(&mut self, hash: &RecordHash) -> Known {
        match self.map.find(hash) {
            Some(Found::Here(record)) => return Known::Here(record),
            // What is not in memory but waits to be written is waiting to be removed.
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

    /// Takes a record, sealed by the sealer of now, in place of an older one.
    pub(crate) fn hold(&mut self, hash: RecordHash, record: SealedRecord, lifetime: &Lifetime) {
        self.time.heard_of(lifetime.fetched_at);
        self.map.hold(hash, Arc::clone(&record), lifetime);
        self.written(hash, Write::Put(record));
        self.evict();
    }

    /// Takes a record that was read from the store.
    pub(crate) fn load(&mut self, hash: RecordHash, record: SealedRecord, lifetime: &Lifetime) {
        self.map.hold(hash, record, lifetime);
        self.evict();
    }

    /// Notes the scope in use, for the next process.
    pub(crate) fn use_scope(&mut self, scope: &Arc<Scope>) {
        if self.scope.as_ref() != Some(scope) {
            self.scope = Some(Arc::clone(scope));
        }
    }

    /// What to leave word of for the next process.
    pub(crate) fn resumed(&self, clock: &dyn Clock) -> Option<SealedRecord> {
        let resumed = self.time.resumed(Arc::clone(self.scope.as_ref()?), clock);
        // Without random numbers no record gets as far as this.
        self.sealer
            .seal(&RESUMED, &record::encode_resumed(&resumed), &[])
            .ok()
    }

    /// Drops a record that must not come back.
    pub(crate) fn withdraw(&mut self, hash: &RecordHash) -> Option<Ticket> {
        let ticket = self.remove(hash)?;
        Some(self.queue.withdraw(ticket))
    }

    /// Drops a record. None: the store has nothing of it, so there is nothing to wait for.
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

    /// Has the store become exactly what is in memory.
    pub(crate) fn rewrite(&mut self) -> Ticket {
        self.map.forget_stored();
        self.index = Index::Complete;
        self.loading = None;
        self.queue.rewrite(self.map.held())
    }

    /// Drops all records. They are returned for the caller to drop without the lock.
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

    /// Drops some of what is dead at `now`. Returns whether there is more.
    pub(crate) fn sweep_some(&mut self, now: Timestamp) -> bool {
        let dead = self.map.dead(now, SWEPT_AT_ONCE);
        for hash in &dead {
            self.remove(hash);
        }
        dead.len() == SWEPT_AT_ONCE
    }

    /// Drops what is over capacity, and counts the pause until the next attempt to heal.
    pub(crate) fn end_sweep(&mut self) {
        self.evict();
        self.lifecycle.swept();
    }

    /// Takes what a store that was opened says. A new one gets everything that is in memory.
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

    /// Seals anew what is in memory, under the key that the store has now.
    fn reseal(&mut self, sealer: &Arc<Sealer>) {
        let old = std::mem::replace(&mut self.sealer, Arc::clone(sealer));
        let held: Vec<_> = self.map.held().collect();
        self.map.clear();
        self.queue.clear();
        self.loading = None;
        for (hash, record) in held {
            // What cannot be opened is of no use to anybody.
            if let Some((hash, record, lifetime)) = resealed(&old, sealer, &hash, &record) {
                self.map.hold(hash, record, &lifetime);
            }
        }
    }

    /// Takes a store that was begun, maybe under a new key, for a clean slate.
    pub(crate) fn replaced(&mut self, sealer: &Arc<Sealer>, file: FileId) {
        // What was put since is older than the slate.
        self.map.clear();
        self.scope = None;
        self.time.forget_before();
        self.lifecycle.replacement_ended();
        self.opened(sealer, file, Stored::Nothing);
    }

    /// Goes on without a store for as long as the process lives.
    pub(crate) fn without_store(&mut self, word: &'static str, out_of_reach: bool) {
        self.lifecycle.given_up(word, out_of_reach);
        self.queue.clear();
        self.map.forget_stored();
        self.index = Index::Complete;
        self.loading = None;
    }

    /// At most `limit` records after `from`, or their beginnings. `None`: it is not known yet which ones.
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

    /// About how many records there are.
    pub(crate) fn entries(&self) -> usize {
        let unlisted = match self.index {
            Index::Complete => 0,
            Index::Reading { left, .. } => usize::try_from(left).unwrap_or(usize::MAX),
        };
        self.map.len().saturating_add(unlisted)
    }
}

/// What a store had in it when it was opened.
#[derive(Debug)]
pub(crate) enum Stored {
    /// It was just begun.
    Nothing,
    Records {
        count: u64,
        resumed: Option<Resumed>,
        /// Reason that the file cannot be written.
        read_only: Option<Failure>,
    },
}

/// A record of `old` as `new` seals it.
fn resealed(
    old: &Sealer,
    new: &Sealer,
    hash: &RecordHash,
    record: &[u8],
) -> Option<(RecordHash, SealedRecord, Lifetime)> {
    let header = old.open_header(hash, record).ok()?;
    let value = old.open_value(hash, record).ok()?;
    let decoded = Header::decode(&header)?;
    let hash = new.hash(&decoded.key()?);
    let record = new.seal(&hash, &header, &value).ok()?;
    Some((hash, record, decoded.lifetime))
}
