//! Which entries there are, by key and by when they die, so that neither a sweep nor a scan walks the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kms_agent_core::backend::ScanItem;
use kms_agent_core::{CacheEntry, Lifetime, SecretKey, Timestamp};

/// Tells apart the entries that were ever put under one key.
pub(crate) type Serial = u64;

/// What is known of an entry besides its value.
#[derive(Debug)]
struct Listing {
    serial: Serial,
    version_id: Arc<str>,
    lifetime: Lifetime,
    hits: Hits,
}

/// How often a key was found; shared with the slot that counts.
pub(crate) type Hits = Arc<AtomicU64>;

#[derive(Debug, Default)]
pub(crate) struct Index {
    by_key: BTreeMap<SecretKey, Listing>,
    by_death: BTreeSet<(Timestamp, Serial, SecretKey)>,
    last_serial: Serial,
}

impl Index {
    /// Notes an entry in place of what was known of `key`.
    pub(crate) fn insert(&mut self, key: &SecretKey, entry: &CacheEntry) -> (Serial, Hits) {
        self.last_serial += 1;
        let serial = self.last_serial;
        let hits = self
            .by_key
            .get(key)
            .map_or_else(Hits::default, |old| Arc::clone(&old.hits));
        let listing = Listing {
            hits: Arc::clone(&hits),
            serial,
            version_id: Arc::clone(&entry.secret.version_id),
            lifetime: entry.lifetime,
        };
        if let Some(old) = self.by_key.insert(key.clone(), listing) {
            self.unlist_death(key, &old);
        }
        self.by_death
            .insert((entry.lifetime.usable_until, serial, key.clone()));
        (serial, hits)
    }

    /// Forgets the entry `serial` of `key`; a younger one under the same key stays.
    pub(crate) fn remove(&mut self, key: &SecretKey, serial: Serial) {
        if self
            .by_key
            .get(key)
            .is_some_and(|listing| listing.serial == serial)
            && let Some(listing) = self.by_key.remove(key)
        {
            self.unlist_death(key, &listing);
        }
    }

    fn unlist_death(&mut self, key: &SecretKey, listing: &Listing) {
        self.by_death
            .remove(&(listing.lifetime.usable_until, listing.serial, key.clone()));
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
            .take(limit.get())
            .map(|(key, listing)| ScanItem {
                key: key.clone(),
                version_id: Arc::clone(&listing.version_id),
                lifetime: listing.lifetime,
                hits: listing.hits.load(Ordering::Relaxed),
            })
            .collect()
    }

    pub(crate) fn keys(&self) -> Vec<SecretKey> {
        self.by_key.keys().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }
}
