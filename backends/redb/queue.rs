//! Queue of writes that are not durable yet. The newest write of a record replaces older ones.

use std::collections::{BTreeMap, HashMap};

use kms_agent_sealed::seal::{RecordHash, SealedRecord};

/// Most writes of one transaction, so that neither making nor settling it delays readers.
const BATCH_WRITES: usize = 2048;

/// Number of a request; earlier requests have lower numbers.
pub(crate) type Ticket = u64;

/// Change to a record.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Put(SealedRecord),
    Remove,
}

/// Writes on their way to the store. A write stays here until it is durable, so that a reader that finds it need not
/// ask the store.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    writes: HashMap<RecordHash, Waiting>,
    /// Writes by age. Only durable writes leave, so a caller that waits for an old write waits for its replacement.
    order: BTreeMap<Ticket, RecordHash>,
    /// Request to empty the store before anything else is written.
    emptying: Option<Emptying>,
    issued: Ticket,
    /// While this ticket is not durable, none is.
    restored: Ticket,
    /// While this ticket is not durable, the store may hold removed entries.
    withdrawn: Ticket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Emptying {
    /// First ticket that waits for the emptying.
    since: Ticket,
    /// Distinguishes this request from an earlier one.
    version: Ticket,
}

#[derive(Debug)]
struct Waiting {
    /// Key of this write in `order`.
    since: Ticket,
    /// Distinguishes this write from an older one of the same record.
    version: Ticket,
    write: Write,
}

/// Writes for one transaction.
#[derive(Debug)]
pub(crate) struct Batch {
    emptying: Option<Emptying>,
    /// Sealed note for the next process.
    resumed: Option<SealedRecord>,
    writes: Vec<(RecordHash, Ticket, Write)>,
    /// Whether the batch has everything that waited.
    is_whole: bool,
}

impl Queue {
    /// Returns the number of a request that writes nothing.
    pub(crate) fn issue(&mut self) -> Ticket {
        self.issued += 1;
        self.issued
    }

    pub(crate) fn push(&mut self, hash: RecordHash, write: Write) -> Ticket {
        let version = self.issue();
        if let Some(waiting) = self.writes.get_mut(&hash) {
            waiting.version = version;
            waiting.write = write;
        } else {
            let waiting = Waiting {
                since: version,
                version,
                write,
            };
            self.order.insert(version, hash);
            self.writes.insert(hash, waiting);
        }
        version
    }

    /// Replaces all waiting writes by a request to make the store exactly `held`.
    pub(crate) fn rewrite(
        &mut self,
        held: impl Iterator<Item = (RecordHash, SealedRecord)>,
    ) -> Ticket {
        let now = self.issue();
        // A caller that waited for a dropped write waits for this request.
        let since = [
            self.order.first_key_value().map(|(at, _)| *at),
            self.emptying.map(|emptying| emptying.since),
        ];
        self.emptying = Some(Emptying {
            since: since.into_iter().flatten().min().unwrap_or(now),
            version: now,
        });
        self.writes.clear();
        self.order.clear();
        for (hash, record) in held {
            self.push(hash, Write::Put(record));
        }
        now
    }

    /// Notes that the store lost what was durable; it is durable again once everything that waits now is.
    pub(crate) fn restore(&mut self) {
        self.restored = self.issued;
    }

    /// Notes that a request up to `ticket` removes entries that must not come back.
    pub(crate) fn withdraw(&mut self, ticket: Ticket) -> Ticket {
        self.withdrawn = self.withdrawn.max(ticket);
        ticket
    }

    /// Notes that there is no store any more, so no removed entry can come back.
    pub(crate) fn forgive(&mut self) {
        self.withdrawn = 0;
    }

    /// Drops all writes and requests.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            issued: self.issued,
            ..Self::default()
        };
    }

    /// Returns the write that waits for this record.
    pub(crate) fn waiting(&self, hash: &RecordHash) -> Option<&Write> {
        self.writes.get(hash).map(|waiting| &waiting.write)
    }

    /// Returns whether the store will be emptied.
    pub(crate) fn is_emptying(&self) -> bool {
        self.emptying.is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.emptying.is_none()
    }

    /// Number of records with a waiting write.
    pub(crate) fn len(&self) -> usize {
        self.writes.len()
    }

    /// Returns whether the store may still hold removed entries.
    pub(crate) fn owes_removals(&self) -> bool {
        self.durable() < self.withdrawn
    }

    /// Returns a batch of the oldest writes, of about `bytes` bytes.
    pub(crate) fn batch(&self, bytes: usize) -> Batch {
        let mut writes = Vec::new();
        let mut size = 0;
        for hash in self.order.values() {
            let Some(waiting) = self.writes.get(hash) else {
                continue;
            };
            if size >= bytes || writes.len() == BATCH_WRITES {
                break;
            }
            size += hash.0.len();
            if let Write::Put(record) = &waiting.write {
                size += record.len();
            }
            writes.push((*hash, waiting.version, waiting.write.clone()));
        }
        Batch {
            is_whole: writes.len() == self.writes.len(),
            emptying: self.emptying,
            resumed: None,
            writes,
        }
    }

    /// Drops the writes that became durable with `batch`, except those replaced since.
    pub(crate) fn settle(&mut self, batch: &Batch) {
        if let (Some(asked), Some(done)) = (&mut self.emptying, batch.emptying) {
            if asked.version == done.version {
                self.emptying = None;
            } else {
                asked.since = asked.version;
            }
        }
        for (hash, version, _) in &batch.writes {
            let Some(waiting) = self.writes.get_mut(hash) else {
                continue;
            };
            self.order.remove(&waiting.since);
            if waiting.version == *version {
                self.writes.remove(hash);
            } else {
                waiting.since = waiting.version;
                self.order.insert(waiting.since, *hash);
            }
        }
    }

    /// Last ticket up to which everything is durable.
    pub(crate) fn durable(&self) -> Ticket {
        let oldest = [
            self.order.first_key_value().map(|(at, _)| *at),
            self.emptying.map(|emptying| emptying.since),
        ];
        let durable = oldest
            .into_iter()
            .flatten()
            .min()
            .map_or(self.issued, |at| at.saturating_sub(1));
        if durable < self.restored { 0 } else { durable }
    }

    /// Last ticket issued.
    pub(crate) fn issued(&self) -> Ticket {
        self.issued
    }
}

impl Batch {
    /// Adds a sealed note for the next process.
    pub(crate) fn resumed_by(self, resumed: Option<SealedRecord>) -> Self {
        Self { resumed, ..self }
    }

    /// Returns whether the store is emptied first.
    pub(crate) fn empties(&self) -> bool {
        self.emptying.is_some()
    }

    /// Returns the sealed note for the next process.
    pub(crate) fn resumed(&self) -> Option<&[u8]> {
        self.resumed.as_deref()
    }

    /// Returns whether the batch had everything that waited when it was made.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(crate) fn writes(&self) -> impl Iterator<Item = (&RecordHash, &Write)> {
        self.writes.iter().map(|(hash, _, write)| (hash, write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = usize::MAX;

    fn hash(n: u8) -> RecordHash {
        RecordHash([n; 32])
    }

    fn put(byte: u8) -> Write {
        Write::Put([byte].into())
    }

    #[test]
    fn only_the_newest_write_of_a_record_is_written() {
        let mut queue = Queue::default();
        queue.push(hash(1), put(1));
        queue.push(hash(2), put(2));
        let last = queue.push(hash(1), Write::Remove);
        let batch = queue.batch(ALL);
        assert_eq!(batch.writes().count(), 2);
        assert!(
            batch
                .writes()
                .any(|(at, write)| *at == hash(1) && matches!(write, Write::Remove))
        );
        assert_eq!(queue.durable(), 0);
        queue.settle(&batch);
        assert!(queue.is_empty());
        assert_eq!(queue.durable(), last);
    }

    #[test]
    fn a_caller_that_waits_for_a_removal_waits_for_its_replacement() {
        let mut queue = Queue::default();
        let removal = queue.push(hash(1), Write::Remove);
        queue.push(hash(1), put(1));
        assert!(queue.durable() < removal);
    }

    #[test]
    fn a_write_that_came_while_an_older_one_was_committed_stays() {
        let mut queue = Queue::default();
        let removal = queue.push(hash(1), Write::Remove);
        let batch = queue.batch(ALL);
        let newer = queue.push(hash(1), put(1));
        queue.settle(&batch);
        assert!(matches!(queue.waiting(&hash(1)), Some(Write::Put(_))));
        assert!((removal..newer).contains(&queue.durable()));
    }

    #[test]
    fn a_batch_ends_where_it_grows_too_large_and_begins_with_the_oldest() {
        let mut queue = Queue::default();
        for n in 0..10 {
            queue.push(hash(n), Write::Put(vec![n; 1000].into()));
        }
        let batch = queue.batch(2500);
        assert_eq!(
            batch.writes().map(|(at, _)| *at).collect::<Vec<_>>(),
            [hash(0), hash(1), hash(2)]
        );
        assert!(!batch.is_whole());
        queue.settle(&batch);
        assert_eq!((queue.len(), queue.durable()), (7, 3));
        assert!(queue.batch(ALL).is_whole());
    }

    #[test]
    fn a_rewrite_asked_for_while_another_is_committed_still_happens() {
        let mut queue = Queue::default();
        queue.rewrite(std::iter::empty());
        let batch = queue.batch(ALL);
        let second = queue.rewrite(std::iter::empty());
        queue.settle(&batch);
        assert!(queue.is_emptying());
        assert_eq!(queue.durable(), second - 1);
        queue.settle(&queue.batch(ALL));
        assert_eq!(queue.durable(), second);
    }

    #[test]
    fn a_caller_that_waited_for_a_lost_store_waits_for_all_of_the_next_one() {
        let mut queue = Queue::default();
        let flush = queue.issue();
        assert_eq!(queue.durable(), flush);
        queue.push(hash(1), put(1));
        queue.push(hash(2), put(2));
        queue.restore();
        queue.settle(&queue.batch(1));
        assert!(queue.durable() < flush);
        queue.push(hash(3), put(3));
        queue.settle(&queue.batch(1));
        assert!(queue.durable() >= flush);
    }

    #[test]
    fn a_removal_is_owed_until_it_is_durable_whatever_takes_its_place() {
        let mut queue = Queue::default();
        queue.push(hash(1), Write::Remove);
        assert!(!queue.owes_removals(), "it was only evicted");
        let ticket = queue.push(hash(2), Write::Remove);
        queue.withdraw(ticket);
        queue.push(hash(2), put(2));
        assert!(queue.owes_removals());
        queue.rewrite(std::iter::empty());
        assert!(queue.owes_removals());
        queue.settle(&queue.batch(ALL));
        assert!(!queue.owes_removals());
        let ticket = queue.push(hash(2), Write::Remove);
        queue.withdraw(ticket);
        queue.forgive();
        assert!(!queue.owes_removals());
    }

    #[test]
    fn a_rewrite_stands_for_all_that_was_asked_before() {
        let mut queue = Queue::default();
        let removal = queue.push(hash(1), Write::Remove);
        queue.push(hash(2), put(2));
        queue.rewrite([(hash(3), vec![3].into())].into_iter());
        assert!(queue.durable() < removal);
        let batch = queue.batch(ALL);
        assert!(batch.empties());
        assert_eq!(batch.writes().count(), 1);
        queue.settle(&batch);
        assert!(queue.is_empty());
        assert_eq!(queue.durable(), queue.issued());
    }
}
