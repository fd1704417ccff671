//! Bounded map of sealed records: an index of all records, with the bytes of those that were read.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::Arc;

use kms_agent_core::{Lifetime, Timestamp};

use crate::seal::{RecordHash, SealedRecord};

/// All known records, in memory or only in the store. None of it is plaintext.
#[derive(Debug)]
pub struct SealedMap {
    items: BTreeMap<RecordHash, Item>,
    /// Hashes, least recently used first.
    by_use: BTreeSet<(Use, RecordHash)>,
    /// Hashes by expiry.
    by_death: BTreeSet<(Timestamp, RecordHash)>,
    capacity: NonZeroUsize,
    last_turn: u64,
}

#[derive(Debug)]
struct Item {
    /// Record, or only its header while the rest is in the store.
    sealed: SealedRecord,
    is_whole: bool,
    used: Use,
    usable_until: Timestamp,
    /// Reads in this process.
    hits: u64,
}

/// Record as a scan shows it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Hash of the record.
    pub hash: RecordHash,
    /// Record, at least its header.
    pub record: SealedRecord,
    /// Reads answered from it.
    pub hits: u64,
}

/// Recency of a record. Records used in this process come after the others, which are ordered by fetch time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    turn: u64,
    fetched_at: Timestamp,
}

/// Location of a known record.
#[derive(Clone, Debug)]
pub enum Found {
    /// In memory.
    Here(SealedRecord),
    /// Only in the store.
    Stored,
}

impl SealedMap {
    /// Makes an empty map that holds `capacity` records at most.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            items: BTreeMap::new(),
            by_use: BTreeSet::new(),
            by_death: BTreeSet::new(),
            capacity,
            last_turn: 0,
        }
    }

    /// Stores `record` as the most recently used.
    pub fn hold(&mut self, hash: RecordHash, record: SealedRecord, lifetime: &Lifetime) {
        self.last_turn += 1;
        let hits = self.items.get(&hash).map_or(0, |old| old.hits);
        let item = Item {
            hits,
            sealed: record,
            is_whole: true,
            used: Use {
                turn: self.last_turn,
                fetched_at: lifetime.fetched_at,
            },
            usable_until: lifetime.usable_until,
        };
        self.insert(hash, item);
    }

    /// Adds a record that is in the store, unless it is known.
    pub fn list(&mut self, hash: RecordHash, beginning: SealedRecord, lifetime: &Lifetime) {
        if self.items.contains_key(&hash) {
            return;
        }
        let item = Item {
            hits: 0,
            sealed: beginning,
            is_whole: false,
            used: Use {
                turn: 0,
                fetched_at: lifetime.fetched_at,
            },
            usable_until: lifetime.usable_until,
        };
        self.insert(hash, item);
    }

    /// Takes a record from the store into memory, unless it is there already. Its recency does not change.
    pub fn fill(&mut self, hash: RecordHash, record: SealedRecord, lifetime: &Lifetime) {
        let known = self.items.get(&hash);
        if known.is_some_and(|item| item.is_whole) {
            return;
        }
        let unused = Use {
            turn: 0,
            fetched_at: lifetime.fetched_at,
        };
        let item = Item {
            hits: known.map_or(0, |item| item.hits),
            used: known.map_or(unused, |item| item.used),
            sealed: record,
            is_whole: true,
            usable_until: lifetime.usable_until,
        };
        self.insert(hash, item);
    }

    fn insert(&mut self, hash: RecordHash, item: Item) {
        self.remove(&hash);
        self.by_use.insert((item.used, hash));
        self.by_death.insert((item.usable_until, hash));
        self.items.insert(hash, item);
    }

    /// Looks a record up and marks it as used.
    pub fn find(&mut self, hash: &RecordHash) -> Option<Found> {
        let item = self.items.get_mut(hash)?;
        item.hits += 1;
        // Turns begin with 1. The record with the last turn is the most recently used already.
        if self.last_turn == 0 || item.used.turn != self.last_turn {
            self.by_use.remove(&(item.used, *hash));
            self.last_turn += 1;
            item.used.turn = self.last_turn;
            self.by_use.insert((item.used, *hash));
        }
        Some(if item.is_whole {
            Found::Here(Arc::clone(&item.sealed))
        } else {
            Found::Stored
        })
    }

    /// Returns whether the record is known, in memory or in the store.
    pub fn contains(&self, hash: &RecordHash) -> bool {
        self.items.contains_key(hash)
    }

    /// Removes a record. Returns whether it was known.
    pub fn remove(&mut self, hash: &RecordHash) -> bool {
        let Some(item) = self.items.remove(hash) else {
            return false;
        };
        self.by_use.remove(&(item.used, *hash));
        self.by_death.remove(&(item.usable_until, *hash));
        true
    }

    /// Removes the least recently used record if there are too many.
    pub fn evict(&mut self) -> Option<RecordHash> {
        if self.items.len() <= self.capacity.get() {
            return None;
        }
        let (_, hash) = *self.by_use.first()?;
        self.remove(&hash);
        Some(hash)
    }

    /// Returns at most `limit` of the records that are dead at `now`.
    pub fn dead(&self, now: Timestamp, limit: usize) -> Vec<RecordHash> {
        self.by_death
            .iter()
            .take(limit)
            .take_while(|(at, _)| *at <= now)
            .map(|(_, hash)| *hash)
            .collect()
    }

    /// Removes the records that are not in memory, because their store is gone.
    pub fn forget_stored(&mut self) {
        let stored: Vec<RecordHash> = self
            .items
            .iter()
            .filter(|(_, item)| !item.is_whole)
            .map(|(hash, _)| *hash)
            .collect();
        for hash in stored {
            self.remove(&hash);
        }
    }

    /// Records in memory.
    pub fn held(&self) -> impl Iterator<Item = (RecordHash, SealedRecord)> {
        self.items
            .iter()
            .filter(|(_, item)| item.is_whole)
            .map(|(hash, item)| (*hash, Arc::clone(&item.sealed)))
    }

    /// Returns at most `limit` records after `from`.
    pub fn page(&self, from: Option<&RecordHash>, limit: NonZeroUsize) -> Vec<Listed> {
        let start = from.map_or(Bound::Unbounded, Bound::Excluded);
        self.items
            .range((start, Bound::Unbounded))
            .take(limit.get())
            .map(|(hash, item)| Listed {
                hash: *hash,
                record: Arc::clone(&item.sealed),
                hits: item.hits,
            })
            .collect()
    }

    /// Removes all records.
    pub fn clear(&mut self) {
        drop(self.take());
    }

    /// Takes all records out, so that the caller can drop them without holding a lock.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let empty = Self {
            last_turn: self.last_turn,
            ..Self::new(self.capacity)
        };
        std::mem::replace(self, empty)
    }

    /// Returns whether no record is known.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Number of records known.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Largest number of records.
    pub fn capacity(&self) -> NonZeroUsize {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(capacity: usize) -> SealedMap {
        SealedMap::new(NonZeroUsize::new(capacity).unwrap())
    }

    fn hash(n: u8) -> RecordHash {
        RecordHash([n; 32])
    }

    fn lifetime(fetched: i64, until: i64) -> Lifetime {
        Lifetime {
            fetched_at: Timestamp::from_millis(fetched),
            rotates_at: None,
            usable_until: Timestamp::from_millis(until),
        }
    }

    fn record(length: usize) -> SealedRecord {
        vec![0; length].into()
    }

    #[test]
    fn unused_records_go_first_in_the_order_of_their_fetch() {
        let mut map = map(2);
        map.hold(hash(1), record(1), &lifetime(0, 9));
        map.list(hash(2), record(1), &lifetime(20, 9));
        map.list(hash(3), record(1), &lifetime(10, 9));
        assert_eq!(map.evict(), Some(hash(3)));
        assert_eq!(map.evict(), None);
        map.find(&hash(2)).unwrap();
        map.hold(hash(4), record(1), &lifetime(0, 9));
        assert_eq!(map.evict(), Some(hash(1)));
    }

    #[test]
    fn records_in_memory_are_not_displaced_by_listed_ones() {
        let mut map = map(2);
        map.hold(hash(1), record(4), &lifetime(0, 9));
        map.list(hash(1), record(1), &lifetime(0, 3));
        assert!(matches!(map.find(&hash(1)), Some(Found::Here(it)) if it.len() == 4));
        assert_eq!(map.dead(Timestamp::from_millis(3), 9), []);
        map.list(hash(2), record(1), &lifetime(0, 3));
        assert!(matches!(map.find(&hash(2)), Some(Found::Stored)));
        map.fill(hash(1), record(9), &lifetime(0, 3));
        map.list(hash(3), record(1), &lifetime(0, 3));
        map.fill(hash(3), record(50), &lifetime(0, 3));
        assert!(matches!(map.find(&hash(3)), Some(Found::Here(it)) if it.len() == 50));
        assert!(map.remove(&hash(3)));
        map.forget_stored();
        assert_eq!(map.len(), 1);
        map.clear();
        assert_eq!(map.len(), 0);
    }

    #[test]
    fn the_dead_are_those_whose_time_has_come() {
        let mut map = map(9);
        for n in 1..=3 {
            map.hold(hash(n), record(1), &lifetime(0, i64::from(n)));
        }
        map.hold(hash(1), record(1), &lifetime(0, 5));
        assert_eq!(map.dead(Timestamp::from_millis(1), 9), []);
        assert_eq!(map.dead(Timestamp::from_millis(2), 9), [hash(2)]);
    }
}
