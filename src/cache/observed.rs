//! Time limits, counters and log lines around any backend.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kms_agent_core::backend::{
    BackendError, BackendErrorKind, BackendInfo, BackendStats, CacheBackend, CacheEntry,
    ScanCursor, ScanPage,
};
use kms_agent_core::clock::Timeline;
use kms_agent_core::fleet::Fleet;
use kms_agent_core::lifetime::Timestamp;
use kms_agent_core::log_gate::{Event, LogGate};
use kms_agent_core::secret::SecretKey;

use crate::metric::StoreMetrics;

/// Limit of operations that a reader waits for. KMS answers in tens of milliseconds; a slower store does not help.
const READ_LIMIT: Duration = Duration::from_millis(500);
/// Limit of operations without a waiting reader, or that must be durable when they return.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// A backend that cannot hang its caller, and whose failures are counted and logged once when they begin and
/// once when they end.
#[derive(Debug)]
pub struct ObservedBackend {
    inner: Arc<dyn CacheBackend>,
    timeline: Timeline,
    metrics: StoreMetrics,
    /// The operations that failed when they were last tried, a bit each.
    failing: AtomicU8,
    /// Number of the backend's own failures that are counted.
    counted: AtomicU64,
    /// A store that fails every other time has no more lines for that.
    log: LogGate<BackendLine>,
}

/// Log line about an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum BackendLine {
    Failed,
    Works,
}

/// Shortest pause between equal lines about one operation.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Each fails by itself: a store that takes nothing may well be read.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Get,
    Put,
    Remove,
    Clear,
    Scan,
    Stats,
    Sweep,
    /// And closing, which is the last there is.
    Flush,
}

impl ObservedBackend {
    /// Watches over `inner`.
    pub fn new(inner: Arc<dyn CacheBackend>, timeline: Timeline, metrics: StoreMetrics) -> Self {
        Self {
            inner,
            timeline,
            metrics,
            failing: AtomicU8::new(0),
            counted: AtomicU64::new(0),
            log: LogGate::default(),
        }
    }

    async fn watch<T>(
        &self,
        limit: Duration,
        operation: Operation,
        call: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        let result = tokio::select! {
            biased;
            result = call => result,
            () = self.timeline.sleep(limit) => {
                Err(BackendError::new(BackendErrorKind::TimedOut, "no answer in time"))
            }
        };
        let bit = 1 << operation as u8;
        match &result {
            Ok(_) => {
                // The load keeps the cache line shared on the path that every hit takes.
                if self.failing.load(Ordering::Relaxed) & bit != 0
                    && self.failing.fetch_and(!bit, Ordering::Relaxed) & bit != 0
                {
                    self.note(BackendLine::Works, operation, None);
                }
            }
            Err(error) => {
                self.metrics.count(error.kind());
                if self.failing.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
                    self.note(BackendLine::Failed, operation, Some(error));
                }
            }
        }
        result
    }

    fn note(&self, line: BackendLine, operation: Operation, error: Option<&BackendError>) {
        let code = format!("{operation:?}");
        let event = Event {
            code: &code,
            ..Event::default()
        };
        self.log.note(line, event, || error.map(report));
    }

    fn tell(&self) {
        let now = self.timeline.clock().boot();
        for (line, operation, gathered) in self.log.due(now, |_| TELL_EVERY) {
            let (operation, count) = (&*operation, gathered.count);
            match line {
                BackendLine::Failed => tracing::warn!(
                    operation,
                    error = gathered.cause.as_deref(),
                    count,
                    "The cache backend failed; going on without it until it works again"
                ),
                BackendLine::Works => {
                    tracing::info!(operation, count, "The cache backend works again");
                }
            }
        }
    }
}

/// The error with the chain of causes.
fn report(error: &BackendError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheBackend for ObservedBackend {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }

    async fn get(
        &self,
        key: &SecretKey,
        now: Timestamp,
    ) -> Result<Option<CacheEntry>, BackendError> {
        self.watch(READ_LIMIT, Operation::Get, self.inner.get(key, now))
            .await
    }

    async fn put(&self, key: &SecretKey, entry: CacheEntry) -> Result<(), BackendError> {
        self.watch(WRITE_LIMIT, Operation::Put, self.inner.put(key, entry))
            .await
    }

    async fn remove(&self, key: &SecretKey) -> Result<(), BackendError> {
        self.watch(WRITE_LIMIT, Operation::Remove, self.inner.remove(key))
            .await
    }

    async fn clear(&self) -> Result<(), BackendError> {
        self.watch(WRITE_LIMIT, Operation::Clear, self.inner.clear())
            .await
    }

    async fn scan(
        &self,
        from: Option<ScanCursor>,
        limit: NonZeroUsize,
    ) -> Result<ScanPage, BackendError> {
        self.watch(WRITE_LIMIT, Operation::Scan, self.inner.scan(from, limit))
            .await
    }

    async fn stats(&self) -> Result<BackendStats, BackendError> {
        let stats = self
            .watch(READ_LIMIT, Operation::Stats, self.inner.stats())
            .await?;
        if let Some(store) = &stats.store {
            let before = self.counted.fetch_max(store.failures, Ordering::Relaxed);
            self.metrics
                .count_background(store.failures.saturating_sub(before));
        }
        Ok(stats)
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), BackendError> {
        self.tell();
        self.watch(WRITE_LIMIT, Operation::Sweep, self.inner.sweep(now))
            .await
    }

    fn confirm_clock(&self) {
        self.inner.confirm_clock();
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        self.inner.fleet()
    }

    async fn flush(&self) -> Result<(), BackendError> {
        self.watch(WRITE_LIMIT, Operation::Flush, self.inner.flush())
            .await
    }

    async fn close(&self) -> Result<(), BackendError> {
        let closed = self
            .watch(WRITE_LIMIT, Operation::Flush, self.inner.close())
            .await;
        self.tell();
        closed
    }
}
