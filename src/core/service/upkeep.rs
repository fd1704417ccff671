//! What happens to entries without a reader: new rules, purges, sweeps, the end.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::SecretService;
use crate::backend::{BackendError, BackendErrorKind, CacheEntry};
use crate::lifetime::Lifetime;
use crate::policy::Policy;
use crate::purge::Purged;
use crate::secret::{Scope, SecretId, SecretKey};
use crate::source::SecretSource;

/// How many entries are looked at in one go where all of them are.
pub(super) const SCAN_PAGE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

/// How often what is dead is wiped.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The longest pause between attempts at what the backend did not let happen.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

impl SecretService {
    /// Puts new rules in force, for entries already held too: what the new rules let live longer does, and
    /// what they call dead is wiped by the next sweep. Entries of another scope than today's are dropped where
    /// the rules change: nobody is answered from them, and to write one would make its scope the one last used.
    pub async fn set_policy(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
        // An error ends it: the backend is in trouble, and its wrapper has said so.
        let _ = self.restamp_all().await;
    }

    /// Puts the rules in force for what an earlier process stored under others, once it is known what that is.
    async fn adopt(&self) {
        let mut pause = SWEEP_EVERY;
        while self.restamp_all().await.is_err() {
            self.timeline.sleep(pause).await;
            pause = LONGEST_PAUSE.min(2 * pause);
        }
    }

    async fn restamp_all(&self) -> Result<(), BackendError> {
        let scope = self.scope();
        let mut from = None;
        loop {
            let page = self.backend.scan(from, SCAN_PAGE).await?;
            for item in page.items {
                let lifetime = self.policy.load().restamp(item.lifetime);
                if lifetime == item.lifetime {
                    continue;
                }
                if scope.as_ref().is_none_or(|scope| *scope == item.key.scope) {
                    self.restamp(&item.key, item.lifetime, lifetime).await;
                } else {
                    let _together = self.writing.read().await;
                    let _ = self.backend.remove(&item.key).await;
                }
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn restamp(&self, key: &SecretKey, old: Lifetime, new: Lifetime) {
        // Alone with the backend, so that neither a younger entry is replaced nor a removed one revived.
        let _alone = self.writing.write().await;
        let entry = self.backend.get(key, old.fetched_at).await.unwrap_or(None);
        if let Some(entry) = entry.filter(|entry| entry.lifetime == old) {
            let entry = CacheEntry {
                lifetime: new,
                ..entry
            };
            let _ = self.backend.put(key, entry).await;
        }
    }

    /// Drops every version of the secret that `id` means, whether it was asked for by name or by ARN, from
    /// every tier, durably when it returns. A fetch that is under way is answered and not stored. Returns how
    /// many entries there were.
    pub async fn purge(&self, id: &SecretId) -> Result<usize, BackendError> {
        let purged = Purged::secret(id);
        self.get_to_know().await?;
        let _alone = self.writing.write().await;
        self.purges.note(purged.clone());
        self.negative.purge(&purged);
        let count = self
            .remove_where(|key| purged.covers(&key.secret.id))
            .await?;
        let store = self.backend.stats().await?.store;
        if store.is_some_and(|store| store.out_of_reach) {
            return Err(BackendError::new(
                BackendErrorKind::Unavailable,
                "purging a store that is out of reach",
            ));
        }
        Ok(count)
    }

    /// The same for everything.
    pub async fn purge_all(&self) -> Result<usize, BackendError> {
        let _alone = self.writing.write().await;
        self.purges.note(Purged::Everything);
        self.negative.purge(&Purged::Everything);
        let count = self.backend.stats().await?.entries;
        self.backend.clear().await?;
        Ok(count)
    }

    /// Asks `source` from now on. What is under way is finished by the old one.
    pub fn set_source(&self, source: Arc<dyn SecretSource>) {
        self.source.store(Arc::new(source));
        let mut upstream = self.lock_upstream();
        (upstream.reached, upstream.identity_refused) = (false, false);
        drop(upstream);
        self.forget_probes();
    }

    /// Does what must happen without readers, for as long as it is polled.
    pub async fn maintain(self: Arc<Self>) {
        tokio::join!(self.adopt(), self.keep_house());
    }

    /// Once a second.
    async fn keep_house(&self) {
        let mut resumed = self.backend.info().resumed;
        loop {
            self.timeline.sleep(SWEEP_EVERY).await;
            if let Some((last, scope)) = resumed.as_ref().zip(self.source.load().scope()) {
                if last.scope != scope {
                    self.drop_scope(&last.scope).await;
                }
                resumed = None;
            }
            let now = self.timeline.now();
            self.negative.sweep(self.policy.load().negative_ttl, now);
            self.outage.sweep(self.boot());
            self.tally.tell(self.boot());
            // A failed sweep is counted and logged by the backend's wrapper, and comes again.
            let _ = self.backend.sweep(now).await;
        }
    }

    /// Drops the entries of a scope that stood in until the agent's own was known, and proved to be another.
    async fn drop_scope(&self, scope: &Scope) {
        tracing::warn!(
            endpoint = &*scope.endpoint,
            "The store was last used with another endpoint or identity; its entries of then are dropped"
        );
        // A failure is counted and logged by the backend's wrapper; what stays is answered to nobody.
        let _ = self.get_to_know().await;
        let _alone = self.writing.write().await;
        let _ = self.remove_where(|key| *key.scope == *scope).await;
    }

    /// Waits until it is known which entries there are. On a slow disk that takes a while after a start, and
    /// whoever waits for it alone has every answer of KMS wait too.
    async fn get_to_know(&self) -> Result<(), BackendError> {
        let mut from = None;
        loop {
            from = self.backend.scan(from, SCAN_PAGE).await?.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// Removes the entries that `is_meant` picks, which needs the lock on writing. Returns how many. One that
    /// cannot be removed is no reason to keep the others.
    async fn remove_where(
        &self,
        is_meant: impl Fn(&SecretKey) -> bool,
    ) -> Result<usize, BackendError> {
        let mut count = 0;
        let mut failure = None;
        let mut from = None;
        loop {
            let page = self.backend.scan(from, SCAN_PAGE).await?;
            for item in page.items.iter().filter(|item| is_meant(&item.key)) {
                count += 1;
                failure = self.backend.remove(&item.key).await.err().or(failure);
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return failure.map_or(Ok(count), Err),
            }
        }
    }

    /// Flushes and closes the backend.
    pub async fn close(&self) -> Result<(), BackendError> {
        self.backend.close().await
    }
}
