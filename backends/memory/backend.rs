use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kms_agent_core::backend::{BackendErrorKind, ScanCursor, ScanPage};
use kms_agent_core::{
    BackendError, BackendInfo, BackendStats, CacheBackend, CacheEntry, Fleet, SecretKey, Timestamp,
};
use moka::future::Cache;
use moka::policy::EvictionPolicy;

use crate::index::Index;
use crate::slot::Slot;

pub(crate) const NAME: &str = "InMemory";

/// Maintenance rounds that reach the capacity. moka evicts in batches, and frees dropped entries only when it is used
/// again.
const MAINTENANCE_ROUNDS: usize = 4;

/// Most entries that are listed or dropped before yielding to other tasks.
const AT_ONCE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(127);

pub(crate) struct MemoryBackend {
    cache: Cache<SecretKey, Arc<Slot>>,
    /// Locked briefly, by moka's eviction listener too.
    index: Arc<Mutex<Index>>,
    /// Writers take turns, so that index and cache agree on who wrote last.
    writing: Arc<tokio::sync::Mutex<()>>,
    capacity: NonZeroUsize,
    closed: AtomicBool,
}

impl MemoryBackend {
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        let index = Arc::new(Mutex::new(Index::default()));
        let listening = Arc::clone(&index);
        let cache = Cache::builder()
            .name(NAME)
            .max_capacity(u64::try_from(capacity.get()).unwrap_or(u64::MAX))
            // The default policy would refuse a new secret while the cache is full of busy ones.
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |_key: Arc<SecretKey>, slot: Arc<Slot>, _cause| {
                lock(&listening).remove(&slot);
                slot.empty();
            })
            .build();
        Self {
            cache,
            index,
            writing: Arc::default(),
            capacity,
            closed: AtomicBool::new(false),
        }
    }

    fn check_open(&self) -> Result<(), BackendError> {
        if self.closed.load(Ordering::Acquire) {
            Err(BackendError::new(
                BackendErrorKind::Closed,
                "the cache is closed",
            ))
        } else {
            Ok(())
        }
    }

    /// Drops all entries in a task of its own, so that a cancelled caller leaves nothing half done.
    async fn drop_all(&self) {
        let cache = self.cache.clone();
        let index = Arc::clone(&self.index);
        let writing = Arc::clone(&self.writing);
        let dropping = tokio::spawn(async move {
            let _turn = writing.lock().await;
            let mut from = None;
            loop {
                let keys = lock(&index).keys(from.as_ref(), AT_ONCE);
                for key in &keys {
                    cache.invalidate(key).await;
                }
                from = keys.into_iter().next_back();
                if from.is_none() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            settle(&cache).await;
        });
        // A panic of the task leaves no lock poisoned.
        let _ = dropping.await;
    }
}

#[async_trait]
impl CacheBackend for MemoryBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            name: NAME,
            durable: false,
            resumed: None,
        }
    }

    async fn get(
        &self,
        key: &SecretKey,
        now: Timestamp,
    ) -> Result<Option<CacheEntry>, BackendError> {
        self.check_open()?;
        let Some(slot) = self.cache.get(key).await else {
            return Ok(None);
        };
        let entry = slot
            .entry()
            .filter(|entry| now < entry.lifetime.usable_until);
        if entry.is_some() {
            slot.count_hit();
        }
        Ok(entry)
    }

    async fn put(&self, key: &SecretKey, entry: CacheEntry) -> Result<(), BackendError> {
        self.check_open()?;
        let _turn = self.writing.lock().await;
        let slot = lock(&self.index).insert(key, entry);
        self.cache.insert(key.clone(), slot).await;
        Ok(())
    }

    async fn remove(&self, key: &SecretKey) -> Result<(), BackendError> {
        self.check_open()?;
        let _turn = self.writing.lock().await;
        self.cache.invalidate(key).await;
        Ok(())
    }

    async fn clear(&self) -> Result<(), BackendError> {
        self.check_open()?;
        self.drop_all().await;
        Ok(())
    }

    async fn scan(
        &self,
        from: Option<ScanCursor>,
        limit: NonZeroUsize,
    ) -> Result<ScanPage, BackendError> {
        self.check_open()?;
        let from = match from {
            None => None,
            Some(ScanCursor(bytes)) => Some(SecretKey::decode(&bytes).ok_or_else(|| {
                BackendError::new(
                    BackendErrorKind::Unavailable,
                    "the cursor is not from a scan of this cache",
                )
            })?),
        };
        let limit = limit.min(AT_ONCE);
        let items = lock(&self.index).page(from.as_ref(), limit);
        let next = items
            .last()
            .filter(|_| items.len() == limit.get())
            .map(|item| ScanCursor(item.key.encode().into()));
        Ok(ScanPage { items, next })
    }

    async fn stats(&self) -> Result<BackendStats, BackendError> {
        self.check_open()?;
        Ok(BackendStats {
            entries: lock(&self.index).len(),
            capacity: self.capacity.get(),
            store: None,
        })
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), BackendError> {
        self.check_open()?;
        loop {
            let turn = self.writing.lock().await;
            let dead = lock(&self.index).dead(now, AT_ONCE.get());
            for key in &dead {
                self.cache.invalidate(key).await;
            }
            drop(turn);
            if dead.is_empty() {
                break;
            }
            tokio::task::yield_now().await;
        }
        settle(&self.cache).await;
        Ok(())
    }

    fn confirm_clock(&self) {
        // There are no entries of a previous process.
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }

    async fn flush(&self) -> Result<(), BackendError> {
        self.check_open()
    }

    async fn close(&self) -> Result<(), BackendError> {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.drop_all().await;
        }
        Ok(())
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend")
            .field("entries", &lock(&self.index).len())
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// Makes moka evict the entries over capacity and call the listener for each.
async fn settle(cache: &Cache<SecretKey, Arc<Slot>>) {
    for _ in 0..MAINTENANCE_ROUNDS {
        cache.run_pending_tasks().await;
    }
}

fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}
