//! Slot of an entry. moka may keep an evicted slot until the cache is used again, so eviction empties the slot at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kms_agent_core::{CacheEntry, SecretKey, Timestamp};

/// Distinguishes the entries put under one key.
pub(crate) type Serial = u64;

#[derive(Debug)]
pub(crate) struct Slot {
    serial: Serial,
    key: SecretKey,
    /// Reads of the key, from this slot and earlier ones.
    hits: AtomicU64,
    /// Expiry of the entry, kept for when the slot is empty.
    dies_at: Timestamp,
    entry: Mutex<Option<CacheEntry>>,
}

impl Slot {
    pub(crate) fn new(serial: Serial, hits: u64, key: SecretKey, entry: CacheEntry) -> Self {
        Self {
            serial,
            key,
            hits: AtomicU64::new(hits),
            dies_at: entry.lifetime.usable_until,
            entry: Mutex::new(Some(entry)),
        }
    }

    pub(crate) fn key(&self) -> &SecretKey {
        &self.key
    }

    /// Position in the order of expiry.
    pub(crate) fn death(&self) -> (Timestamp, Serial) {
        (self.dies_at, self.serial)
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    pub(crate) fn count_hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn entry(&self) -> Option<CacheEntry> {
        self.lock().clone()
    }

    pub(crate) fn empty(&self) {
        self.lock().take();
    }

    fn lock(&self) -> MutexGuard<'_, Option<CacheEntry>> {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
