use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use kms_agent_core::backend::{BackendErrorKind, ScanCursor, ScanPage};
use kms_agent_core::{
    BackendError, BackendInfo, BackendStats, CacheBackend, CacheEntry, Fleet, SecretKey, Timestamp,
    run_blocking,
};
use tokio::sync::Mutex;

use crate::folder::Folder;

pub(crate) const NAME: &str = "Files";

/// Makes one call at a time, each on a thread that may block.
#[derive(Debug)]
pub(crate) struct FilesBackend {
    info: BackendInfo,
    /// Open folder; `None` once the backend is closed.
    folder: Arc<Mutex<Option<Folder>>>,
    /// Whether dead entries may be removed. A wrong clock may make entries of the previous process look dead.
    may_remove_dead: AtomicBool,
}

impl FilesBackend {
    pub(crate) fn new(folder: Folder) -> Self {
        let resumed = folder.resumed();
        Self {
            may_remove_dead: AtomicBool::new(resumed.is_none()),
            info: BackendInfo {
                name: NAME,
                durable: true,
                resumed,
            },
            folder: Arc::new(Mutex::new(Some(folder))),
        }
    }

    /// Does `work` off the async threads. A caller that is cancelled before its turn has requested nothing; after that the
    /// work is done all the same, before any later request.
    async fn with_folder<T: Send + 'static>(
        &self,
        context: &'static str,
        work: impl FnOnce(&mut Folder) -> io::Result<T> + Send + 'static,
    ) -> Result<T, BackendError> {
        let mut folder = Arc::clone(&self.folder).lock_owned().await;
        let worked = run_blocking(move || folder.as_mut().map(work)).await;
        let failed =
            |cause| BackendError::new(BackendErrorKind::Unavailable, context).with_cause(cause);
        match worked {
            Ok(Some(result)) => result.map_err(failed),
            Ok(None) => Err(BackendError::new(BackendErrorKind::Closed, context)),
            Err(error) => Err(failed(io::Error::other(error))),
        }
    }
}

#[async_trait]
impl CacheBackend for FilesBackend {
    fn info(&self) -> BackendInfo {
        self.info.clone()
    }

    async fn get(
        &self,
        key: &SecretKey,
        now: Timestamp,
    ) -> Result<Option<CacheEntry>, BackendError> {
        let key = key.clone();
        self.with_folder("reading an entry", move |folder| folder.get(&key, now))
            .await
    }

    async fn put(&self, key: &SecretKey, entry: CacheEntry) -> Result<(), BackendError> {
        let key = key.clone();
        self.with_folder("writing an entry", move |folder| folder.put(&key, &entry))
            .await
    }

    async fn remove(&self, key: &SecretKey) -> Result<(), BackendError> {
        let key = key.clone();
        self.with_folder("removing an entry", move |folder| folder.remove(&key))
            .await
    }

    async fn clear(&self) -> Result<(), BackendError> {
        self.with_folder("removing all entries", Folder::clear)
            .await
    }

    async fn scan(
        &self,
        from: Option<ScanCursor>,
        limit: NonZeroUsize,
    ) -> Result<ScanPage, BackendError> {
        let from = from.and_then(|ScanCursor(bytes)| SecretKey::decode(&bytes));
        let items = self
            .with_folder("listing entries", move |folder| {
                Ok(folder.page(from.as_ref(), limit))
            })
            .await?;
        let next = items
            .last()
            .filter(|_| items.len() == limit.get())
            .map(|item| ScanCursor(item.key.encode().into()));
        Ok(ScanPage { items, next })
    }

    async fn stats(&self) -> Result<BackendStats, BackendError> {
        self.with_folder("counting entries", |folder| Ok(folder.stats()))
            .await
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), BackendError> {
        let may_remove_dead = self.may_remove_dead.load(Ordering::Relaxed);
        self.with_folder("removing dead entries", move |folder| {
            if may_remove_dead {
                folder.sweep(now)
            } else {
                folder.evict()
            }
        })
        .await
    }

    fn confirm_clock(&self) {
        self.may_remove_dead.store(true, Ordering::Relaxed);
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }

    async fn flush(&self) -> Result<(), BackendError> {
        // Every put is durable when it returns.
        self.with_folder("flushing", |_| Ok(())).await
    }

    async fn close(&self) -> Result<(), BackendError> {
        self.folder.lock().await.take();
        Ok(())
    }
}
