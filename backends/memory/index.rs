//! Index of entries by key and by expiry, so that neither a sweep nor a scan walks the cache.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::Arc;

use kms_agent_core::backend::ScanItem;
use kms_agent_core::{CacheEntry, SecretKey, Timestamp};

use crate::slot::{Serial, Slot};

#[derive(Debug, Default)]
pub(crate) struct Index {
    by_key: BTreeSet<ByKey>,
    by_death: BTreeMap<(Timestamp, Serial), Arc<Slot>>,
    last_serial: Serial,
}

impl Index {
    /// Creates and indexes the slot of an entry, in place of an older one of `key`.
    pub(crate) fn insert(&mut self, key: &SecretKey, entry: CacheEntry) -> Arc<Slot> {
        self.last_serial += 1;
        let hits = self.by_key.get(key).map_or(0, |ByKey(old)| old.hits());
        let slot = Arc::new(Slot::new(self.last_serial, hits, key.clone(), entry));
        if let Some(ByKey(old)) = self.by_key.replace(ByKey(Arc::clone(&slot))) {
            self.by_death.remove(&old.death());
        }
        self.by_death.insert(slot.death(), Arc::clone(&slot));
        slot
    }

    /// Removes `slot` from the index; a younger slot of the same key stays.
    pub(crate) fn remove(&mut self, slot: &Arc<Slot>) {
        let listed = self.by_key.get(slot.key());
        if listed.is_some_and(|ByKey(listed)| Arc::ptr_eq(listed, slot)) {
            self.by_key.remove(slot.key());
            self.by_death.remove(&slot.death());
        }
    }

    /// Returns at most `limit` keys whose entries are dead at `now`.
    pub(crate) fn dead(&self, now: Timestamp, limit: usize) -> Vec<SecretKey> {
        self.by_death
            .iter()
            .take(limit)
            .take_while(|((at, _), _)| *at <= now)
            .map(|(_, slot)| slot.key().clone())
            .collect()
    }

    /// Returns at most `limit` entries whose keys come after `from`.
    pub(crate) fn page(&self, from: Option<&SecretKey>, limit: NonZeroUsize) -> Vec<ScanItem> {
        let start = from.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_key
            .range::<SecretKey, _>((start, Bound::Unbounded))
            .filter_map(|ByKey(slot)| {
                let entry = slot.entry()?;
                Some(ScanItem {
                    key: slot.key().clone(),
                    version_id: entry.secret.version_id,
                    lifetime: entry.lifetime,
                    hits: slot.hits(),
                })
            })
            .take(limit.get())
            .collect()
    }

    /// Returns at most `limit` keys after `from`.
    pub(crate) fn keys(&self, from: Option<&SecretKey>, limit: NonZeroUsize) -> Vec<SecretKey> {
        let start = from.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_key
            .range::<SecretKey, _>((start, Bound::Unbounded))
            .take(limit.get())
            .map(|ByKey(slot)| slot.key().clone())
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }
}

/// Slot, ordered by its key.
#[derive(Debug)]
struct ByKey(Arc<Slot>);

impl Borrow<SecretKey> for ByKey {
    fn borrow(&self) -> &SecretKey {
        self.0.key()
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.key().cmp(other.0.key())
    }
}
