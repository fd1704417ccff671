use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use kms_agent_core::backend::{BackendErrorKind, ScanCursor, ScanPage, StoreStats};
use kms_agent_core::{
    BackendError, BackendInfo, BackendStats, CacheBackend, CacheEntry, Fleet, SecretKey, Timestamp,
};
use kms_agent_sealed::seal::RecordHash;

use crate::local::{Moment, State};
use crate::server::{Link, Shared, Stop};

pub(crate) const NAME: &str = "Redis";

/// Entries that are listed or wiped before other tasks have their turn.
const AT_ONCE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(127);

/// The local map first, the server second.
#[derive(Debug)]
pub(crate) struct RedisBackend {
    pub(crate) link: Arc<Link>,
    _stop: Stop,
    closed: AtomicBool,
}

impl RedisBackend {
    pub(crate) fn start(link: Link) -> Self {
        let link = Arc::new(link);
        Self {
            _stop: link.start(),
            link,
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

    /// Takes a record of the server into the local map, unless it was removed since `mark` or is older than one that
    /// was held. Returns whether it may be used.
    pub(crate) fn take(&self, key: &SecretKey, record: &Shared, mark: Moment) -> bool {
        let mut local = self.link.local();
        if local.is_outdated(key, record.fetched_at) {
            return false;
        }
        let held = local.hold_from_server(key, &record.entry, record.fetched_at, mark);
        // An entry that cannot be sealed is used, and not held.
        held.unwrap_or(true)
    }
}

#[async_trait]
impl CacheBackend for RedisBackend {
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
        self.link.learn_origin(now);
        let (found, mark) = {
            let mut local = self.link.local();
            let found = local.find(key, now);
            if let Some(found) = &found
                && found.state == State::Confirmed
            {
                return Ok(local.open(found));
            }
            (found, local.mark())
        };
        let doubtful = found.and_then(|found| self.link.local().open(&found.expired()));
        let Some(session) = self.link.session_or_first().await else {
            return Ok(doubtful);
        };
        match session.look(key).await {
            Ok(looked) => {
                let record = looked
                    .record
                    .filter(|record| now < record.entry.lifetime.usable_until)
                    .filter(|record| self.take(key, record, mark));
                Ok(record.map(|record| record.entry).or(doubtful))
            }
            Err(trouble) => {
                self.link.failed(trouble);
                Ok(doubtful)
            }
        }
    }

    async fn put(&self, key: &SecretKey, entry: CacheEntry) -> Result<(), BackendError> {
        self.check_open()?;
        let mut local = self.link.local();
        let mark = local.mark();
        local.hold(key, &entry, None, mark)?;
        Ok(())
    }

    async fn remove(&self, key: &SecretKey) -> Result<(), BackendError> {
        self.check_open()?;
        self.link.local().remove(key);
        Ok(())
    }

    async fn clear(&self) -> Result<(), BackendError> {
        self.check_open()?;
        self.link.local().clear();
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
            Some(ScanCursor(bytes)) => {
                Some(<[u8; 32]>::try_from(&*bytes).map(RecordHash).map_err(|_| {
                    BackendError::new(
                        BackendErrorKind::Unavailable,
                        "the cursor is not from a scan of this cache",
                    )
                })?)
            }
        };
        let (items, last) = self.link.local().page(from.as_ref(), limit.min(AT_ONCE));
        Ok(ScanPage {
            items,
            next: last.map(|hash| ScanCursor(hash.0.into())),
        })
    }

    async fn stats(&self) -> Result<BackendStats, BackendError> {
        self.check_open()?;
        let (entries, capacity) = {
            let local = self.link.local();
            (local.len(), local.capacity().get())
        };
        Ok(BackendStats {
            entries,
            capacity,
            store: Some(StoreStats {
                path: self.link.shown().into(),
                bytes: None,
                trouble: self.link.trouble(),
                failures: self.link.failures(),
                committed_at: self.link.committed_at(),
            }),
        })
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), BackendError> {
        self.check_open()?;
        while self.link.local().sweep(now, AT_ONCE.get()) {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn confirm_clock(&self) {
        self.link.confirm_clock();
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        Some(self)
    }

    async fn flush(&self) -> Result<(), BackendError> {
        self.check_open()
    }

    async fn close(&self) -> Result<(), BackendError> {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.link.close().await;
            self.link.local().clear();
        }
        Ok(())
    }
}
