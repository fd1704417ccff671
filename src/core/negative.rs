//! What KMS refused lately, so that a reader in a loop does not become a stream of calls.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::lifetime::Timestamp;
use crate::purge::Purged;
use crate::secret::SecretKey;
use crate::source::SourceError;

/// Refusals by key, bounded in number and time.
#[derive(Debug)]
pub(crate) struct NegativeMemory {
    capacity: NonZeroUsize,
    refusals: Mutex<HashMap<SecretKey, Remembered>>,
}

#[derive(Debug)]
struct Remembered {
    error: Arc<SourceError>,
    refused_at: Timestamp,
}

impl NegativeMemory {
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        Self {
            capacity,
            refusals: Mutex::default(),
        }
    }

    /// The refusal of `key` that is younger than `ttl`.
    pub(crate) fn recall(
        &self,
        key: &SecretKey,
        ttl: Duration,
        now: Timestamp,
    ) -> Option<Arc<SourceError>> {
        let refusals = self.lock();
        let remembered = refusals.get(key)?;
        (now.since(remembered.refused_at) < ttl).then(|| Arc::clone(&remembered.error))
    }

    pub(crate) fn remember(&self, key: SecretKey, error: Arc<SourceError>, now: Timestamp) {
        let mut refusals = self.lock();
        if refusals.len() >= self.capacity.get() && !refusals.contains_key(&key) {
            let oldest = refusals
                .iter()
                .min_by_key(|(_, remembered)| remembered.refused_at)
                .map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                refusals.remove(&oldest);
            }
        }
        refusals.insert(
            key,
            Remembered {
                error,
                refused_at: now,
            },
        );
    }

    pub(crate) fn forget(&self, key: &SecretKey) {
        self.lock().remove(key);
    }

    /// Drops the refusals of what was purged.
    pub(crate) fn purge(&self, purged: &Purged) {
        self.lock().retain(|key, _| !purged.covers(&key.secret.id));
    }

    /// Drops what is older than `ttl`.
    pub(crate) fn sweep(&self, ttl: Duration, now: Timestamp) {
        self.lock()
            .retain(|_, remembered| now.since(remembered.refused_at) < ttl);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SecretKey, Remembered>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
