//! The read path.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::RwLock;

use crate::backend::{BackendError, BackendInfo, BackendStats, CacheBackend, CacheEntry};
use crate::clock::Timeline;
use crate::flight::{Boarding, Flights, Ticket};
use crate::lifetime::{Lifetime, Timestamp};
use crate::metric::ReadMetrics;
use crate::negative::NegativeMemory;
use crate::outage::Outage;
use crate::policy::{Freshness, Policy};
use crate::purge::{PurgeLog, Purged};
use crate::refresh;
use crate::secret::{Fetched, Scope, Secret, SecretId, SecretKey, SecretRef};
use crate::source::{
    CredentialState, FetchRequest, Purpose, SecretSource, SourceError, SourceErrorKind,
};

/// Longer answers are served and not stored.
pub const MAX_STORED_BYTES: usize = 256 * 1024;

/// The longest that a reader waits for KMS when there is a copy that may be served instead.
const PATIENCE_WITH_COPY: Duration = Duration::from_secs(2);

/// How many entries are looked at in one go where all of them are.
const SCAN_PAGE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

/// How often what is dead is wiped.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What a reader will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// A fresh copy, or what KMS says, or an expired copy while KMS cannot say anything.
    Any,
    /// Only what KMS answers from now on.
    RefreshNow,
}

/// A secret for a reader, with what there is to know about it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The secret.
    pub secret: Secret,
    /// How long ago KMS was asked.
    pub age: Duration,
    /// Where it comes from.
    pub status: CacheStatus,
}

/// Where an answer comes from, in the terms of RFC 9211.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// A fresh copy.
    Hit {
        /// For how much longer it is fresh.
        left: Duration,
    },
    /// KMS was asked and answered.
    Forwarded {
        /// Why it was asked.
        reason: ForwardReason,
        /// Whether the answer is now in the cache.
        stored: bool,
        /// Whether another reader had asked already.
        collapsed: bool,
    },
    /// An expired copy, because KMS could not answer.
    Stale {
        /// Whether it was asked for this reader; otherwise it was known to be failing.
        forwarded: bool,
        /// For how long the copy has been expired.
        since: Duration,
        /// What the failure is called: a token.
        detail: String,
    },
}

/// Why KMS was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardReason {
    /// There was no copy.
    Miss,
    /// There was an expired one.
    Stale,
    /// The reader wanted no copy.
    Request,
    /// Nothing is ever stored.
    Bypass,
}

/// How the calls to KMS went lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamState {
    /// When KMS last answered, be it with a refusal.
    pub last_success_at: Option<Timestamp>,
    /// What the last failure is called, while no answer has come since.
    pub failing: Option<String>,
}

/// Answers reads from the cache and from the source, as the policy says.
#[derive(Debug)]
pub struct SecretService {
    /// Where entries are kept.
    backend: Arc<dyn CacheBackend>,
    /// Who is asked; a reload swaps it.
    source: ArcSwap<Arc<dyn SecretSource>>,
    /// What time it is.
    timeline: Timeline,
    /// Today's rules; a reload swaps them.
    policy: ArcSwap<Policy>,
    /// The calls under way.
    flights: Flights<Landing>,
    /// The refusals of the last seconds.
    negative: NegativeMemory,
    /// The keys that KMS cannot answer at the moment.
    outage: Outage,
    /// The last outcome over all keys.
    upstream: Mutex<UpstreamState>,
    /// What was purged while calls were under way.
    purges: PurgeLog,
    /// Held together by whoever changes one entry, and alone by whoever reads and writes one back.
    writing: RwLock<()>,
    /// What reads came to.
    metrics: ReadMetrics,
}

/// What a flight brings.
type Landing = Result<Landed, Arc<SourceError>>;

#[derive(Clone, Debug)]
struct Landed {
    secret: Secret,
    asked_at: Timestamp,
    stored: bool,
}

impl SecretService {
    /// Puts the parts together. `capacity` bounds the memory of refusals.
    pub fn new(
        backend: Arc<dyn CacheBackend>,
        source: Arc<dyn SecretSource>,
        timeline: Timeline,
        policy: Policy,
        capacity: NonZeroUsize,
        metrics: ReadMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            backend,
            source: ArcSwap::from_pointee(source),
            timeline,
            policy: ArcSwap::from_pointee(policy),
            flights: Flights::new(),
            negative: NegativeMemory::new(capacity),
            outage: Outage::default(),
            upstream: Mutex::default(),
            purges: PurgeLog::default(),
            writing: RwLock::default(),
            metrics,
        })
    }

    /// Reads a secret. The error is what KMS, or the way to it, had to say.
    pub async fn read(
        self: &Arc<Self>,
        secret: &SecretRef,
        demand: Demand,
    ) -> Result<Answer, Arc<SourceError>> {
        let policy = self.policy.load();
        let scope = self.scope();
        let known = scope.is_some();
        let key = SecretKey {
            // What is fetched before the scope is known is filed under the scope that the fetch learns.
            scope: scope.unwrap_or_else(unknown_scope),
            secret: secret.clone(),
        };
        match demand {
            Demand::RefreshNow => {
                let ticket = self.board(key, Purpose::RefreshNow, Boarding::Next);
                return self.forwarded(ticket, ForwardReason::Request).await;
            }
            Demand::Any if policy.ttl.is_zero() => {
                return self.fetch(&key, &policy, ForwardReason::Bypass).await;
            }
            Demand::Any => {}
        }
        let now = self.timeline.now();
        // A failed look-up is a miss; the backend's wrapper has counted it.
        let entry = if known {
            self.backend.get(&key, now).await.unwrap_or(None)
        } else {
            None
        };
        let Some(entry) = entry else {
            return self.fetch(&key, &policy, ForwardReason::Miss).await;
        };
        let freshness = policy.judge(&entry.lifetime, now);
        match freshness {
            Freshness::Fresh { left } => {
                if policy.refresh_ahead
                    && refresh::is_due(&key, &entry.lifetime, freshness, now)
                    && self
                        .outage
                        .standing(&key, self.boot())
                        .is_none_or(|standing| standing.retry)
                {
                    self.refresh(&key);
                }
                self.metrics.hit.inc();
                Ok(Answer {
                    age: now.since(entry.lifetime.fetched_at),
                    secret: entry.secret,
                    status: CacheStatus::Hit { left },
                })
            }
            Freshness::Expired { since } if policy.serve_stale => {
                self.fetch_or_stale(&key, &policy, entry, since, now).await
            }
            Freshness::Expired { .. } => self.fetch(&key, &policy, ForwardReason::Stale).await,
            Freshness::Dead => self.fetch(&key, &policy, ForwardReason::Miss).await,
        }
    }

    /// Puts new rules in force, for entries already held too: what the new rules let live longer does, and
    /// what they call dead is wiped by the next sweep.
    pub async fn set_policy(&self, policy: Policy) {
        let policy = Arc::new(policy);
        self.policy.store(Arc::clone(&policy));
        let mut from = None;
        // A page that cannot be read ends it: the backend is in trouble, and its wrapper has said so.
        while let Ok(page) = self.backend.scan(from, SCAN_PAGE).await {
            for item in page.items {
                let lifetime = policy.restamp(item.lifetime);
                if lifetime != item.lifetime {
                    self.restamp(&item.key, item.lifetime, lifetime).await;
                }
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return,
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
        let _alone = self.writing.write().await;
        self.purges.note(purged.clone());
        self.negative.purge(&purged);
        let mut count = 0;
        let mut from = None;
        loop {
            let page = self.backend.scan(from, SCAN_PAGE).await?;
            for item in page
                .items
                .iter()
                .filter(|item| purged.covers(&item.key.secret.id))
            {
                self.backend.remove(&item.key).await?;
                count += 1;
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(count),
            }
        }
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
    }

    /// Does what must happen without readers: once a second, for as long as it is polled.
    pub async fn maintain(self: Arc<Self>) {
        loop {
            self.timeline.sleep(SWEEP_EVERY).await;
            let now = self.timeline.now();
            self.negative.sweep(self.policy.load().negative_ttl, now);
            self.outage.sweep(self.boot());
            // A failed sweep is counted and logged by the backend's wrapper, and comes again.
            let _ = self.backend.sweep(now).await;
        }
    }

    /// Flushes and closes the backend.
    pub async fn close(&self) -> Result<(), BackendError> {
        self.backend.close().await
    }

    /// What the backend is.
    pub fn backend_info(&self) -> BackendInfo {
        self.backend.info()
    }

    /// How the backend is doing.
    pub async fn backend_stats(&self) -> Result<BackendStats, BackendError> {
        self.backend.stats().await
    }

    /// How the calls to KMS went lately.
    pub fn upstream(&self) -> UpstreamState {
        self.lock_upstream().clone()
    }

    /// What is known of the agent's own credentials.
    pub fn credentials(&self) -> CredentialState {
        self.source.load().credentials()
    }

    /// The region secrets are read from, once it is known.
    pub fn region(&self) -> Option<Arc<str>> {
        self.source.load().region()
    }

    /// The agent's time.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The scope reads are filed under: the source's own, else, while that is still unknown, the one that the
    /// store was last used with.
    fn scope(&self) -> Option<Arc<Scope>> {
        self.source
            .load()
            .scope()
            .or_else(|| self.backend.info().resumed)
    }

    /// The answer for a reader without a copy: what KMS says.
    async fn fetch(
        self: &Arc<Self>,
        key: &SecretKey,
        policy: &Policy,
        reason: ForwardReason,
    ) -> Result<Answer, Arc<SourceError>> {
        if let Some(refusal) = self.recall(key, policy) {
            return Err(refusal);
        }
        let ticket = self.board(key.clone(), Purpose::Read, Boarding::Any);
        self.forwarded(ticket, reason).await
    }

    /// The answer for a reader with an expired copy: what KMS says, or the copy if it says nothing in time.
    async fn fetch_or_stale(
        self: &Arc<Self>,
        key: &SecretKey,
        policy: &Policy,
        copy: CacheEntry,
        since: Duration,
        now: Timestamp,
    ) -> Result<Answer, Arc<SourceError>> {
        if let Some(refusal) = self.recall(key, policy) {
            return Err(refusal);
        }
        let stale = |forwarded, detail: &str| {
            self.metrics.stale.inc();
            Ok(Answer {
                secret: copy.secret.clone(),
                age: now.since(copy.lifetime.fetched_at),
                status: CacheStatus::Stale {
                    forwarded,
                    since,
                    detail: detail.to_owned(),
                },
            })
        };
        if let Some(standing) = self.outage.standing(key, self.boot()) {
            if standing.retry {
                self.refresh(key);
            }
            return stale(false, &standing.code);
        }
        let ticket = self.board(key.clone(), Purpose::Refresh, Boarding::Any);
        tokio::select! {
            biased;
            answer = self.forwarded(ticket, ForwardReason::Stale) => match answer {
                Err(error) if error.kind().is_transient() => stale(true, error.code()),
                answer => answer,
            },
            () = self.timeline.sleep(PATIENCE_WITH_COPY) => {
                let kind = SourceErrorKind::TimedOut;
                self.outage.failed(key, kind, kind.code(), self.boot(), None);
                stale(true, kind.code())
            }
        }
    }

    /// Sets off a fetch that nobody waits for; one that is under way will do.
    fn refresh(self: &Arc<Self>, key: &SecretKey) {
        drop(self.board(key.clone(), Purpose::Refresh, Boarding::Any));
    }

    fn recall(&self, key: &SecretKey, policy: &Policy) -> Option<Arc<SourceError>> {
        self.negative
            .recall(key, policy.negative_ttl, self.timeline.now())
    }

    fn board(
        self: &Arc<Self>,
        key: SecretKey,
        purpose: Purpose,
        boarding: Boarding,
    ) -> Ticket<Landing> {
        let service = Arc::clone(self);
        let arrived_at = self.boot();
        let order = key.clone();
        self.flights.board(&key, boarding, move || async move {
            service.fly(order, purpose, arrived_at).await
        })
    }

    async fn forwarded(
        &self,
        ticket: Ticket<Landing>,
        reason: ForwardReason,
    ) -> Result<Answer, Arc<SourceError>> {
        let collapsed = ticket.joined;
        let landed = ticket.landing().await.unwrap_or_else(|| {
            Err(Arc::new(SourceError::new(
                SourceErrorKind::Unavailable,
                "the fetch crashed; this is a defect of the agent",
            )))
        })?;
        if collapsed {
            self.metrics.collapsed.inc();
        } else {
            self.metrics.miss.inc();
        }
        Ok(Answer {
            age: self.timeline.now().since(landed.asked_at),
            secret: landed.secret,
            status: CacheStatus::Forwarded {
                reason,
                stored: landed.stored,
                collapsed,
            },
        })
    }

    /// One flight: asks, judges and stores, whether or not anybody still waits for it.
    async fn fly(&self, mut key: SecretKey, purpose: Purpose, arrived_at: Duration) -> Landing {
        let asked_at = self.timeline.now();
        let mark = self.purges.mark();
        let request = FetchRequest {
            secret: &key.secret,
            purpose,
            arrived_at,
        };
        let source = Arc::clone(&self.source.load());
        let result = source
            .fetch(request)
            .await
            .and_then(|fetched| require_version(&key.secret, fetched));
        match result {
            Ok(fetched) => {
                self.answered(&key);
                key.scope = Arc::clone(&fetched.scope);
                self.negative.forget(&key);
                let stored = self.store(&key, &fetched, asked_at, mark).await;
                Ok(Landed {
                    secret: fetched.secret,
                    asked_at,
                    stored,
                })
            }
            Err(error) if error.kind().is_transient() => {
                let first = self.outage.failed(
                    &key,
                    error.kind(),
                    error.code(),
                    self.boot(),
                    error.retry_after(),
                );
                self.lock_upstream().failing = Some(error.code().to_owned());
                report_failure(&key, &error, first);
                Err(Arc::new(error))
            }
            Err(error) => {
                self.answered(&key);
                if let Some(scope) = self.source.load().scope() {
                    key.scope = scope;
                }
                if error.kind() == SourceErrorKind::Decision {
                    let _together = self.writing.read().await;
                    // A failed removal is counted and logged by the backend's wrapper.
                    let _ = self.backend.remove(&key).await;
                }
                tracing::info!(
                    secret = key.secret.id.name(),
                    code = error.code(),
                    "KMS refused a secret"
                );
                let error = Arc::new(error);
                self.negative
                    .remember(key, Arc::clone(&error), self.timeline.now());
                Err(error)
            }
        }
    }

    /// Puts what was fetched into the backend, unless it was purged since `mark`.
    async fn store(
        &self,
        key: &SecretKey,
        fetched: &Fetched,
        asked_at: Timestamp,
        mark: u64,
    ) -> bool {
        let policy = self.policy.load();
        if policy.ttl.is_zero() || fetched.secret.answer.len() > MAX_STORED_BYTES {
            return false;
        }
        let rotates_at = fetched.rotates_at.map(|at| self.timeline.place(at));
        let entry = CacheEntry {
            secret: fetched.secret.clone(),
            lifetime: policy.stamp(asked_at, rotates_at),
        };
        let _together = self.writing.read().await;
        if self.purges.has_covered_since(mark, &key.secret.id) {
            return false;
        }
        self.backend.put(key, entry).await.is_ok()
    }

    /// KMS said something about `key`.
    fn answered(&self, key: &SecretKey) {
        if self.outage.answered(key, self.boot()) {
            tracing::info!(
                secret = key.secret.id.name(),
                "KMS answers for this secret again"
            );
        }
        let now = self.timeline.now();
        let mut upstream = self.lock_upstream();
        upstream.last_success_at = Some(now);
        upstream.failing = None;
    }

    fn boot(&self) -> Duration {
        self.timeline.clock().boot()
    }

    fn lock_upstream(&self) -> std::sync::MutexGuard<'_, UpstreamState> {
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Managed secrets ignore `VersionId`; another version than the one asked for must never pass for it.
fn require_version(secret: &SecretRef, fetched: Fetched) -> Result<Fetched, SourceError> {
    match secret.selector.version_id() {
        Some(wanted) if *fetched.secret.version_id != *wanted => Err(SourceError::new(
            SourceErrorKind::VersionNotFound,
            "KMS answered with another version than the one asked for",
        )),
        _ => Ok(fetched),
    }
}

fn report_failure(key: &SecretKey, error: &SourceError, first: bool) {
    let secret = key.secret.id.name();
    let (code, cause) = (error.code(), error.report());
    if first {
        tracing::warn!(secret, code, cause, "KMS could not be asked for a secret");
    } else {
        tracing::debug!(
            secret,
            code,
            cause,
            "KMS still cannot be asked for a secret"
        );
    }
}

fn unknown_scope() -> Arc<Scope> {
    Arc::new(Scope {
        endpoint: Box::default(),
        identity: Box::default(),
    })
}
