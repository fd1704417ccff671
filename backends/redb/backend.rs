use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use kms_agent_core::backend::{BackendErrorKind, ScanCursor, ScanItem, ScanPage};
use kms_agent_core::{
    BackendError, BackendInfo, BackendStats, CacheBackend, CacheEntry, Fleet, Resumed, Secret,
    SecretKey, SecretValue, Timestamp,
};
use kms_agent_sealed::map::Listed;
use kms_agent_sealed::record::Header;
use kms_agent_sealed::seal::{Damaged, RecordHash, Sealer};

use crate::store::{Started, Store};

pub(crate) const NAME: &str = "Persistent";

/// Most records that a scan opens before it yields to other tasks.
const OPENED_AT_ONCE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(127);

/// Seals entries on the way in and opens them on the way out; the store sees only sealed records.
pub(crate) struct RedbBackend {
    store: Store,
    is_durable: bool,
    resumed: Option<Resumed>,
    closed: AtomicBool,
}

impl RedbBackend {
    pub(crate) fn new(started: Started) -> Self {
        Self {
            store: started.store,
            is_durable: started.is_durable,
            resumed: started.resumed,
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
}

#[async_trait]
impl CacheBackend for RedbBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            name: NAME,
            durable: self.is_durable,
            resumed: self.resumed.clone(),
        }
    }

    async fn get(
        &self,
        key: &SecretKey,
        now: Timestamp,
    ) -> Result<Option<CacheEntry>, BackendError> {
        self.check_open()?;
        let sealer = self.store.sealer();
        let hash = sealer.hash(key);
        let Some(record) = self.store.find(&hash, now).await else {
            return Ok(None);
        };
        let opened = open(&sealer, &hash, &record, now);
        if opened.is_err() {
            self.store.discard(&sealer, &hash);
        }
        Ok(opened.unwrap_or(None))
    }

    async fn put(&self, key: &SecretKey, entry: CacheEntry) -> Result<(), BackendError> {
        self.check_open()?;
        let header = Header::encode(key, &entry);
        // A purge may change the key between sealing and storing.
        loop {
            let sealer = self.store.sealer();
            let hash = sealer.hash(key);
            let record = sealer.seal(&hash, &header, entry.secret.answer.expose())?;
            if self
                .store
                .hold(&sealer, hash, record, &entry.lifetime, &key.scope)
            {
                return Ok(());
            }
        }
    }

    async fn remove(&self, key: &SecretKey) -> Result<(), BackendError> {
        self.check_open()?;
        loop {
            let sealer = self.store.sealer();
            let hash = sealer.hash(key);
            if self.store.remove(&sealer, &hash).await? {
                return Ok(());
            }
        }
    }

    async fn clear(&self) -> Result<(), BackendError> {
        self.check_open()?;
        self.store.clear().await
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
        let limit = limit.min(OPENED_AT_ONCE);
        let page = self.store.page(from.as_ref(), limit).await?;
        let sealer = self.store.sealer();
        let next = page
            .last()
            .filter(|_| page.len() == limit.get())
            .map(|listed| ScanCursor(listed.hash.0.into()));
        let items = page
            .iter()
            .filter_map(|listed| show(&sealer, listed))
            .collect();
        Ok(ScanPage { items, next })
    }

    async fn stats(&self) -> Result<BackendStats, BackendError> {
        self.check_open()?;
        Ok(self.store.stats())
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), BackendError> {
        self.check_open()?;
        self.store.sweep(now).await;
        Ok(())
    }

    fn confirm_clock(&self) {
        self.store.confirm_clock();
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }

    async fn flush(&self) -> Result<(), BackendError> {
        self.check_open()?;
        self.store.flush().await
    }

    async fn close(&self) -> Result<(), BackendError> {
        self.closed.store(true, Ordering::Release);
        self.store.close().await
    }
}

/// Decrypts one entry. `None`: the record is dead.
fn open(
    sealer: &Sealer,
    hash: &RecordHash,
    record: &[u8],
    now: Timestamp,
) -> Result<Option<CacheEntry>, Damaged> {
    let header = sealer.open_header(hash, record)?;
    let header = Header::decode(&header).ok_or(Damaged)?;
    if now >= header.lifetime.usable_until {
        return Ok(None);
    }
    Ok(Some(CacheEntry {
        secret: Secret {
            answer: SecretValue::new(sealer.open_value(hash, record)?),
            version_id: header.version_id.into(),
            stages: header.owned_stages(),
        },
        lifetime: header.lifetime,
    }))
}

/// Returns a record as a scan shows it. A damaged record is handled when it is read.
fn show(sealer: &Sealer, listed: &Listed) -> Option<ScanItem> {
    let header = sealer.open_header(&listed.hash, &listed.record).ok()?;
    let header = Header::decode(&header)?;
    Some(ScanItem {
        key: header.key()?,
        version_id: header.version_id.into(),
        lifetime: header.lifetime,
        hits: listed.hits,
    })
}

impl fmt::Debug for RedbBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbBackend")
            .field("store", &self.store)
            .field("is_durable", &self.is_durable)
            .finish_non_exhaustive()
    }
}
