//! Where an entry lies. moka may keep an evicted slot for as long as nobody touches the cache, so eviction takes the
//! entry out of it at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kms_agent_core::{CacheEntry, SecretKey, Timestamp};

/// Tells apart the entries that were ever put under one key.
pub(crate) type Serial = u64;

#[derive(Debug)]
pub(crate) struct Slot {
    serial: Serial,
    key: SecretKey,
    /// How often the key was found, in this slot and those before it.
    hits: AtomicU64,
    /// Kept apart, since it is asked for when the entry is gone.
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

    /// Its place in the order of dying.
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
