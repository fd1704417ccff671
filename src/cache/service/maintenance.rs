//! Maintenance: new rules for held entries, sweeps, shutdown.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kms_agent_core::Backoff;
use kms_agent_core::backend::{BackendError, CacheEntry};
use kms_agent_core::lifetime::Lifetime;
use kms_agent_core::secret::SecretKey;
use kms_agent_core::source::SecretSource;

use super::SecretService;
use super::listing::SCAN_PAGE;
use crate::policy::Policies;

/// Interval of sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Pauses between attempts to bring entries under the policy while the backend fails.
const BACKOFF: Backoff = Backoff::new(SWEEP_EVERY, Duration::from_mins(1));

impl SecretService {
    /// Puts new rules in force, for entries already held too: what the new rules let live longer does, and
    /// what they call dead is wiped by the next sweep. Entries of another scope than today's are dropped where
    /// the rules change: no reader gets them, and to write one would make its scope the one last used.
    pub async fn set_policy(&self, policy: impl Into<Policies>) {
        self.policy.store(Arc::new(policy.into()));
        self.watches.wake_all();
        // An error ends it: the backend is in trouble, and its wrapper has said so.
        let _ = self.restamp_all().await;
    }

    /// Puts the rules in force for what an earlier process stored under others, once it is known what that is.
    async fn adopt(&self) {
        for failures in 0.. {
            if self.restamp_all().await.is_ok() {
                return;
            }
            self.timeline.sleep(BACKOFF.bound(failures)).await;
        }
    }

    async fn restamp_all(&self) -> Result<(), BackendError> {
        let _turn = self.restamping.lock().await;
        let scope = self.scope();
        let mut from = None;
        loop {
            let page = self.backend.scan(from, SCAN_PAGE).await?;
            for item in page.items {
                let policy = self.policy.load_full();
                let lifetime = policy.of(&item.key.secret.id).restamp(item.lifetime);
                if lifetime == item.lifetime {
                    continue;
                }
                if scope.as_ref().is_none_or(|scope| *scope == item.key.scope) {
                    self.restamp(&item.key, item.lifetime, lifetime).await;
                } else {
                    let _together = self.writing.read().await;
                    let _ = self.backend.remove(&item.key).await;
                }
                // Each is opened and sealed again.
                tokio::task::yield_now().await;
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
            tokio::task::yield_now().await;
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

    /// Asks `source` from now on. What is under way is finished by the old one.
    pub fn set_source(&self, source: Arc<dyn SecretSource>) {
        self.source.store(Arc::new(source));
        let mut upstream = self.lock_upstream();
        (upstream.reached, upstream.identity_refused) = (false, false);
        drop(upstream);
        self.forget_probes();
        self.watches.outdate_all();
    }

    /// Does what must happen without readers, for as long as it is polled.
    pub async fn maintain(self: Arc<Self>) {
        tokio::join!(self.adopt(), self.run_maintenance());
    }

    /// Once a second.
    async fn run_maintenance(&self) {
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
            let negative_ttl = self.policy.load().general.negative_ttl;
            self.negative.sweep(negative_ttl, now);
            self.outage.sweep(self.boot());
            self.tell();
            self.pass_on_confirmation();
            // A failed sweep is counted and logged by the backend's wrapper, and comes again.
            let _ = self.backend.sweep(now).await;
        }
    }

    /// Tells the backend once that a service has confirmed the wall clock.
    pub(super) fn pass_on_confirmation(&self) {
        if !self.clock_is_confirmed.load(Ordering::Relaxed) && self.source.load().confirms_clock() {
            self.clock_is_confirmed.store(true, Ordering::Relaxed);
            self.backend.confirm_clock();
        }
    }

    /// Flushes and closes the backend.
    pub async fn close(&self) -> Result<(), BackendError> {
        self.tell_the_rest();
        self.pass_on_confirmation();
        self.backend.close().await
    }
}
