//! A backend that fails on demand.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use kms_agent_core::backend::{BackendErrorKind, ScanCursor, ScanPage};
use kms_agent_core::{
    BackendError, BackendInfo, BackendStats, CacheBackend, CacheEntry, SecretKey, Timestamp,
};

/// Forwards to another backend until it is told to fail.
#[derive(Debug)]
pub struct FaultyBackend {
    inner: Arc<dyn CacheBackend>,
    failing: AtomicBool,
}

impl FaultyBackend {
    /// Works for now.
    pub fn new(inner: Arc<dyn CacheBackend>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            failing: AtomicBool::new(false),
        })
    }

    /// From now on every call fails, or none does.
    pub fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    fn working(&self) -> Result<&Arc<dyn CacheBackend>, BackendError> {
        if self.failing.load(Ordering::SeqCst) {
            Err(BackendError::new(
                BackendErrorKind::Unavailable,
                "told to fail",
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
        self.working()?.get(key, now).await
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

    async fn flush(&self) -> Result<(), BackendError> {
        self.working()?.flush().await
    }

    async fn close(&self) -> Result<(), BackendError> {
        self.working()?.close().await
    }
}
