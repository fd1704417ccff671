//! A backend that fails or slows down on demand.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use kms_agent_core::backend::{BackendErrorKind, ScanCursor, ScanPage};
use kms_agent_core::{
    BackendError, BackendInfo, BackendStats, CacheBackend, CacheEntry, Fleet, SecretKey, Timestamp,
};

/// Number of different look-up delays.
const PACES: usize = 4;

/// Forwards to another backend until a test makes it fail.
#[derive(Debug)]
pub struct FaultyBackend {
    inner: Arc<dyn CacheBackend>,
    failing: AtomicBool,
    dawdling: AtomicBool,
    look_ups: AtomicUsize,
    /// Whether the next look-up fails.
    next_fails: AtomicBool,
}

impl FaultyBackend {
    /// Creates a wrapper that does not fail yet.
    pub fn new(inner: Arc<dyn CacheBackend>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            failing: AtomicBool::new(false),
            dawdling: AtomicBool::new(false),
            look_ups: AtomicUsize::new(0),
            next_fails: AtomicBool::new(false),
        })
    }

    /// Delays look-ups by different amounts, so that their answers may be out of date, as on a busy machine.
    pub fn set_dawdling(&self, dawdling: bool) {
        self.dawdling.store(dawdling, Ordering::SeqCst);
    }

    /// Makes only the next look-up fail, as one that times out.
    pub fn fail_next_look_up(&self) {
        self.next_fails.store(true, Ordering::SeqCst);
    }

    /// Makes every call fail from now on, or none.
    pub fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    fn working(&self) -> Result<&Arc<dyn CacheBackend>, BackendError> {
        if self.failing.load(Ordering::SeqCst) {
            Err(BackendError::new(
                BackendErrorKind::Unavailable,
                "failing by order of the test",
            ))
        } else {
            Ok(&self.inner)
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheBackend for FaultyBackend {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }

    async fn get(
        &self,
        key: &SecretKey,
        now: Timestamp,
    ) -> Result<Option<CacheEntry>, BackendError> {
        if self.next_fails.swap(false, Ordering::SeqCst) {
            return Err(BackendError::new(
                BackendErrorKind::TimedOut,
                "failing once by order of the test",
            ));
        }
        let found = self.working()?.get(key, now).await;
        if self.dawdling.load(Ordering::SeqCst) {
            for _ in 0..self.look_ups.fetch_add(1, Ordering::SeqCst) % PACES {
                tokio::task::yield_now().await;
            }
        }
        found
    }

    async fn put(&self, key: &SecretKey, entry: CacheEntry) -> Result<(), BackendError> {
        self.working()?.put(key, entry).await
    }

    async fn remove(&self, key: &SecretKey) -> Result<(), BackendError> {
        self.working()?.remove(key).await
    }

    async fn clear(&self) -> Result<(), BackendError> {
        self.working()?.clear().await
    }

    async fn scan(
        &self,
        from: Option<ScanCursor>,
        limit: NonZeroUsize,
    ) -> Result<ScanPage, BackendError> {
        self.working()?.scan(from, limit).await
    }

    async fn stats(&self) -> Result<BackendStats, BackendError> {
        self.working()?.stats().await
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), BackendError> {
        self.working()?.sweep(now).await
    }

    fn confirm_clock(&self) {
        self.inner.confirm_clock();
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        self.inner.fleet()
    }

    async fn flush(&self) -> Result<(), BackendError> {
        self.working()?.flush().await
    }

    async fn close(&self) -> Result<(), BackendError> {
        self.working()?.close().await
    }
}
