//! Which entries there are, by key and by when they die, so that neither a sweep nor a scan walks the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::Arc;

use kms_agent_core::backend::ScanItem;
use kms_agent_core::{CacheEntry, SecretKey, Timestamp};

use crate::slot::{Serial, Slot};

#[derive(Debug, Default)]
pub(crate) struct Index {
    by_key: BTreeMap<SecretKey, Arc<Slot>>,
    by_death: BTreeSet<(Timestamp, Serial, SecretKey)>,
    last_serial: Serial,
}

impl Index {
    /// Makes the slot for an entry, and notes it in place of what was known of `key`.
    pub(crate) fn insert(&mut self, key: &SecretKey, entry: CacheEntry) -> Arc<Slot> {
        self.last_serial += 1;
        let serial = self.last_serial;
        let dies_at = entry.lifetime.usable_until;
        let hits = self.by_key.get(key).map_or(0, |old| old.hits());
        let slot = Arc::new(Slot::new(serial, hits, entry));
        if let Some(old) = self.by_key.insert(key.clone(), Arc::clone(&slot)) {
            self.unlist_death(key, &old);
        }
        self.by_death.insert((dies_at, serial, key.clone()));
        slot
    }

    /// Forgets `slot`; a younger one under the same key stays.
    pub(crate) fn remove(&mut self, key: &SecretKey, slot: &Arc<Slot>) {
        if self
            .by_key
            .get(key)
            .is_some_and(|listed| Arc::ptr_eq(listed, slot))
        {
            self.by_key.remove(key);
            self.unlist_death(key, slot);
        }
    }

    fn unlist_death(&mut self, key: &SecretKey, slot: &Slot) {
        self.by_death
            .remove(&(slot.dies_at(), slot.serial(), key.clone()));
    }

    /// The keys whose entries are dead at `now`.
    pub(crate) fn dead(&self, now: Timestamp) -> Vec<SecretKey> {
        self.by_death
            .iter()
            .take_while(|(at, ..)| *at <= now)
            .map(|(.., key)| key.clone())
            .collect()
    }

    /// At most `limit` entries whose keys come after `from`.
    pub(crate) fn page(&self, from: Option<&SecretKey>, limit: NonZeroUsize) -> Vec<ScanItem> {
        let start = from.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_key
            .range((start, Bound::Unbounded))
            .filter_map(|(key, slot)| {
                let entry = slot.entry()?;
                Some(ScanItem {
                    key: key.clone(),
                    version_id: entry.secret.version_id,
                    lifetime: entry.lifetime,
                    hits: slot.hits(),
                })
            })
            .take(limit.get())
            .collect()
    }

    pub(crate) fn keys(&self) -> Vec<SecretKey> {
        self.by_key.keys().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }
}
