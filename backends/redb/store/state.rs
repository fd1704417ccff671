//! What the threads of the store share, and the decisions on it that need no waiting.

use std::num::NonZeroUsize;
use std::sync::Arc;

use kms_agent_core::{Clock, Lifetime, Resumed, Scope, Timestamp};
use kms_agent_sealed::map::{Found, Listed, SealedMap};
use kms_agent_sealed::record::{self, Header};
use kms_agent_sealed::seal::{RESUMED, RecordHash, SealedRecord, Sealer};

use super::fault::{Failure, Fault};
use super::place::FileId;
use super::time::Time;
use crate::queue::{Queue, Ticket, Write};

/// The longest pause between attempts to heal, in sweeps, which come about once a second.
const LONGEST_PAUSE: u32 = 32;

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
    /// Whether there is a store at all, or only memory.
    pub(crate) has_store: bool,
    /// There is one, with who knows what in it, that only a later process may get at.
    pub(crate) out_of_reach: bool,
    /// What keeps it from being written, while it can only be read.
    pub(crate) unwritable: Option<Failure>,
    /// Whether the database is open, which it is not while the medium fails.
    pub(crate) is_open: bool,
    /// The file it was opened from last.
    pub(crate) file: Option<FileId>,
    /// See whether that file is still there.
    pub(crate) look: bool,
    pub(crate) trouble: Option<Trouble>,
    /// How often the store failed to do what it was asked.
    pub(crate) failures: u64,
    /// How often the store was opened; tells faults of one opening from those of another.
    pub(crate) opening: u64,
    /// What a reader ran into, for the writing thread to look at.
    pub(crate) fault: Option<Fault>,
    /// Somebody waits: write now, also while in trouble.
    pub(crate) attempt: bool,
    /// The store and its key are to be replaced.
    pub(crate) replace: bool,
    pub(crate) stop: Option<Stop>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Write everything, then let go.
    Close,
    /// Let go.
    Abandon,
}

/// The store does not work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    pub(crate) word: &'static str,
    /// The pause after the last attempt, in sweeps.
    pause: u32,
    /// What is left of it.
    left: u32,
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
            has_store: true,
            out_of_reach: false,
            unwritable: None,
            is_open: false,
            file: None,
            look: false,
            trouble: None,
            failures: 0,
            opening: 0,
            fault: None,
            attempt: false,
            replace: false,
            stop: None,
            bytes: 0,
            committed_at: None,
        }
    }

    /// Looks a record up.
    pub(crate) fn find(&mut self, place: &RecordHash) -> Known {
        match self.map.find(place) {
            Some(Found::Here(record)) => return Known::Here(record),
            // What is not in memory but waits to be written is waiting to be removed.
            None if self.index == Index::Complete || self.queue.waiting(place).is_some() => {
                return Known::Nothing;
            }
            Some(Found::Stored) | None => {}
        }
        if self.is_open && !self.queue.is_emptying() {
            Known::Ask
        } else {
            Known::Nothing
        }
    }

    /// Takes a record, sealed by the sealer of now, in place of an older one.
    pub(crate) fn hold(&mut self, place: RecordHash, record: SealedRecord, lifetime: &Lifetime) {
        self.time.heard_of(lifetime.fetched_at);
        self.map.hold(place, Arc::clone(&record), lifetime);
        self.written(place, Write::Put(record));
        self.evict();
    }

    /// Takes a record that was read from the store.
    pub(crate) fn load(&mut self, place: RecordHash, record: SealedRecord, lifetime: &Lifetime) {
        self.map.hold(place, record, lifetime);
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
    pub(crate) fn withdraw(&mut self, place: &RecordHash) -> Option<Ticket> {
        let ticket = self.remove(place)?;
        Some(self.queue.withdraw(ticket))
    }

    /// Drops a record. None: the store has nothing of it, so there is nothing to wait for.
    pub(crate) fn remove(&mut self, place: &RecordHash) -> Option<Ticket> {
        let may_be_stored = self.map.remove(place)
            || self.index != Index::Complete
            || self.queue.waiting(place).is_some();
        (may_be_stored && self.has_store).then(|| self.written(*place, Write::Remove))
    }

    fn written(&mut self, place: RecordHash, write: Write) -> Ticket {
        if self.loading == Some(place) {
            self.loading = None;
        }
        if !self.has_store {
            return self.queue.issued();
        }
        let ticket = self.queue.push(place, write);
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
        let ticket = self.has_store.then(|| {
            self.replace = true;
            let ticket = self.rewrite();
            self.queue.withdraw(ticket)
        });
        (ticket, dropped)
    }

    pub(crate) fn evict(&mut self) {
        while let Some(place) = self.map.evict() {
            self.written(place, Write::Remove);
        }
    }

    /// Drops some of what is dead at `now`. Returns whether there is more.
    pub(crate) fn sweep_some(&mut self, now: Timestamp) -> bool {
        let dead = self.map.dead(now, SWEPT_AT_ONCE);
        for place in &dead {
            self.remove(place);
        }
        dead.len() == SWEPT_AT_ONCE
    }

    /// Drops what is over capacity, and counts the pause until the next attempt to heal.
    pub(crate) fn end_sweep(&mut self) {
        self.evict();
        self.look = true;
        if self.has_store
            && let Some(trouble) = &mut self.trouble
        {
            trouble.left = trouble.left.saturating_sub(1);
            self.attempt |= trouble.left == 0;
        }
    }

    /// Notes that an attempt failed. True: this is news.
    pub(crate) fn fail(&mut self, word: &'static str) -> bool {
        let before = self.trouble;
        let pause = before.map_or(1, |trouble| (2 * trouble.pause).min(LONGEST_PAUSE));
        self.trouble = Some(Trouble {
            word,
            pause,
            left: pause,
        });
        self.failures += 1;
        self.attempt = false;
        // Who asked for it is told that it failed. The store is emptied when it is back, but what was put into
        // memory since stays there.
        self.replace = false;
        before.is_none()
    }

    /// Whether the only trouble is that nothing can be written, so that all there is can be read.
    pub(crate) fn is_only_unwritable(&self) -> bool {
        let words = (self.trouble.as_ref(), self.unwritable.as_ref());
        self.is_open && matches!(words, (Some(one), Some(other)) if one.word == other.word)
    }

    /// Notes what a reader ran into, unless the store was opened again since.
    pub(crate) fn report(&mut self, opening: u64, fault: Fault) {
        if self.opening == opening {
            self.fault.get_or_insert(fault);
        }
    }

    /// Takes what a store that was opened says. A new one gets everything that is in memory.
    pub(crate) fn opened(&mut self, sealer: &Arc<Sealer>, file: FileId, found: Stored) {
        if self.sealer.id() != sealer.id() {
            self.reseal(sealer);
        }
        // In another file than before may be what was removed since.
        let is_strange = self.file.replace(file).is_some_and(|old| old != file);
        self.is_open = true;
        self.opening += 1;
        self.fault = None;
        match found {
            Stored::Nothing => {
                self.map.forget_stored();
                self.queue.clear();
                self.queue.forgive();
                self.index = Index::Complete;
                self.loading = None;
                for (place, record) in self.map.held() {
                    self.queue.push(place, Write::Put(record));
                }
                self.queue.restore();
            }
            Stored::Records { count, resumed } => {
                if let Some(resumed) = resumed {
                    self.scope.get_or_insert(Arc::clone(&resumed.scope));
                    self.time.found(resumed, self.opening == 1);
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
        for (place, record) in held {
            // What cannot be opened is of no use to anybody.
            if let Some((place, record, lifetime)) = resealed(&old, sealer, &place, &record) {
                self.map.hold(place, record, &lifetime);
            }
        }
    }

    /// Takes a store that was begun, maybe under a new key, for a clean slate.
    pub(crate) fn replaced(&mut self, sealer: &Arc<Sealer>, file: FileId) {
        // What was put since is older than the slate.
        self.map.clear();
        self.scope = None;
        self.time.forget_before();
        self.replace = false;
        self.opened(sealer, file, Stored::Nothing);
    }

    /// Goes on without a store for as long as the process lives.
    pub(crate) fn without_store(&mut self, word: &'static str) {
        self.fail(word);
        self.has_store = false;
        self.is_open = false;
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
                let last = page.last().map(|listed| listed.place);
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
    },
}

/// A record of `old` as `new` seals it.
fn resealed(
    old: &Sealer,
    new: &Sealer,
    place: &RecordHash,
    record: &[u8],
) -> Option<(RecordHash, SealedRecord, Lifetime)> {
    let header = old.open_header(place, record).ok()?;
    let value = old.open_value(place, record).ok()?;
    let decoded = Header::decode(&header)?;
    let place = new.place(&decoded.key()?);
    let record = new.seal(&place, &header, &value).ok()?;
    Some((place, record, decoded.lifetime))
}
