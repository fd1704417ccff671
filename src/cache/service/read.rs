//! A read, from the question to the answer.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::backend::CacheEntry;
use kms_agent_core::lifetime::Timestamp;
use kms_agent_core::secret::{SecretKey, SecretRef};
use kms_agent_core::source::{Purpose, SourceError, SourceErrorKind};

use super::{FetchOutcome, SecretService, key_in};
use crate::answer::{Answer, CacheStatus, Demand, ForwardReason};
use crate::policy::{Freshness, Policy};
use crate::refresh;
use crate::upstream::single_flight::Join;

/// The longest that a reader waits for KMS when there is a copy that may be served instead.
const PATIENCE_WITH_COPY: Duration = Duration::from_secs(2);

impl SecretService {
    /// Reads a secret. The error is what KMS, or the way to it, had to say.
    pub async fn read(
        self: &Arc<Self>,
        secret: &SecretRef,
        demand: Demand,
    ) -> Result<Answer, Arc<SourceError>> {
        // Whatever asks KMS is boxed: a hit, which is nearly every read, then carries none of its state.
        let arrived_at = self.boot();
        let mut now = self.timeline.at(arrived_at);
        let mut scope = self.scope();
        if scope.is_none() {
            // Readers must meet under one key, or each side of the moment of learning asks KMS by itself.
            let source = self.source.load_full();
            source.learn_scope(arrived_at).await;
            scope = self.scope();
            now = self.timeline.now();
        }
        let policies = self.policy.load();
        let policy = policies.of(&secret.id);
        let known = scope.is_some();
        let key = key_in(scope, secret.clone());
        match demand {
            Demand::RefreshNow => {
                let (purpose, reason) = (Purpose::RefreshNow, ForwardReason::Request);
                let answer = self.forwarded(&key, purpose, policy, reason, arrived_at);
                return self.counted(Box::pin(answer).await);
            }
            Demand::Any if policy.ttl.is_zero() => {
                let reason = ForwardReason::Bypass;
                let answer = Box::pin(self.fetch(&key, policy, reason, arrived_at)).await;
                return self.counted(answer);
            }
            Demand::Any => {}
        }
        let entry = if known {
            self.entry(&key, now).await
        } else {
            None
        };
        let Some(entry) = entry else {
            let answer = Box::pin(self.fetch(&key, policy, ForwardReason::Miss, arrived_at)).await;
            return self.counted(answer);
        };
        let freshness = self.judge(policy, &entry.lifetime, now);
        let answer = match freshness {
            Freshness::Fresh { left } => {
                if policy.refresh_ahead && refresh::is_due(&key, &entry.lifetime, freshness, now) {
                    self.refresh_ahead(&key, policy);
                }
                self.metrics.hit.inc();
                return Ok(Answer {
                    age: now.since(entry.lifetime.fetched_at),
                    secret: entry.secret,
                    status: CacheStatus::Hit { left },
                });
            }
            Freshness::Expired { .. } if policy.serve_stale => {
                Box::pin(self.fetch_or_stale(&key, policy, entry, arrived_at)).await
            }
            Freshness::Expired { .. } => {
                Box::pin(self.fetch(&key, policy, ForwardReason::Stale, arrived_at)).await
            }
            Freshness::Dead => {
                Box::pin(self.fetch(&key, policy, ForwardReason::Miss, arrived_at)).await
            }
        };
        self.counted(answer)
    }

    /// The entry of `key` for a read, expired ones too. A failed look-up is a miss, which the backend's wrapper has
    /// counted.
    pub(super) async fn entry(&self, key: &SecretKey, now: Timestamp) -> Option<CacheEntry> {
        self.backend.get(key, now).await.unwrap_or(None)
    }

    /// Counts a read that ends in an error, once, whatever was tried for it.
    fn counted(
        &self,
        answer: Result<Answer, Arc<SourceError>>,
    ) -> Result<Answer, Arc<SourceError>> {
        answer.inspect_err(|_| self.summary.failed())
    }

    /// The answer for a reader without a copy: what KMS says.
    async fn fetch(
        self: &Arc<Self>,
        key: &SecretKey,
        policy: &Policy,
        reason: ForwardReason,
        arrived_at: Duration,
    ) -> Result<Answer, Arc<SourceError>> {
        if let Some(refusal) = self.recall(key, policy) {
            return Err(refusal);
        }
        self.forwarded(key, Purpose::Read, policy, reason, arrived_at)
            .await
    }

    /// The answer for a reader with an expired copy: what KMS says, or the copy if it says nothing in time.
    async fn fetch_or_stale(
        self: &Arc<Self>,
        key: &SecretKey,
        policy: &Policy,
        copy: CacheEntry,
        arrived_at: Duration,
    ) -> Result<Answer, Arc<SourceError>> {
        if let Some(refusal) = self.recall(key, policy) {
            return Err(refusal);
        }
        if let Some(standing) = self.outage.standing(key, self.boot()) {
            if standing.retry {
                self.refresh(key);
            }
            if let Some(answer) = self.stale(policy, &copy, false, &standing.code) {
                return Ok(answer);
            }
        }
        let (purpose, reason) = (Purpose::Refresh, ForwardReason::Stale);
        let mut fetched = pin!(self.forwarded(key, purpose, policy, reason, arrived_at));
        let in_time = tokio::select! {
            biased;
            answer = &mut fetched => Some(answer),
            () = self.timeline.sleep(PATIENCE_WITH_COPY) => None,
        };
        match in_time {
            Some(Err(error)) if error.kind().is_transient() => {
                self.stale(policy, &copy, true, error.code()).ok_or(error)
            }
            Some(answer) => answer,
            None => {
                let code = SourceErrorKind::TimedOut.code();
                self.outage.hangs(key, code, self.boot());
                match self.stale(policy, &copy, true, code) {
                    Some(answer) => Ok(answer),
                    None => fetched.await,
                }
            }
        }
    }

    /// An expired copy as an answer, judged at the moment it is given: it has aged while KMS was waited for,
    /// and `None` means that it has died.
    fn stale(
        &self,
        policy: &Policy,
        copy: &CacheEntry,
        forwarded: bool,
        detail: &str,
    ) -> Option<Answer> {
        let now = self.timeline.now();
        let Freshness::Expired { since } = self.judge(policy, &copy.lifetime, now) else {
            return None;
        };
        self.metrics.stale.inc();
        self.summary.stale();
        Some(Answer {
            secret: copy.secret.clone(),
            age: now.since(copy.lifetime.fetched_at),
            status: CacheStatus::Stale {
                forwarded,
                since,
                detail: detail.to_owned(),
            },
        })
    }

    /// Sets off a refresh of an entry that is still fresh, unless KMS has lately failed or refused it.
    fn refresh_ahead(self: &Arc<Self>, key: &SecretKey, policy: &Policy) {
        let refused = self.recall(key, policy).is_some();
        let failing = self.outage.standing(key, self.boot());
        if !refused && failing.is_none_or(|standing| standing.retry) {
            self.refresh(key);
        }
    }

    pub(super) fn recall(&self, key: &SecretKey, policy: &Policy) -> Option<Arc<SourceError>> {
        self.negative
            .recall(key, policy.negative_ttl, self.timeline.now())
    }

    /// Joins or leads a fetch. Returns whether it was started for another reader, and its outcome.
    async fn fetched(
        self: &Arc<Self>,
        key: &SecretKey,
        purpose: Purpose,
        arrived_at: Duration,
    ) -> (bool, FetchOutcome) {
        let join = match purpose {
            Purpose::RefreshNow => Join::Next,
            Purpose::Read | Purpose::Refresh | Purpose::Watch => Join::Any,
        };
        let waiter = self.join(key.clone(), purpose, join, arrived_at);
        let joined = waiter.joined;
        let outcome = waiter.outcome().await;
        (joined, outcome.unwrap_or_else(|| Err(crashed())))
    }

    /// Waits for a fetch and says how its answer came about:
    ///
    /// | the fetch | the answer counts as |
    /// |---|---|
    /// | was started by this reader, and KMS answered | forwarded |
    /// | was started by another reader | forwarded, collapsed |
    /// | found an entry that another fetch stored after this reader arrived | forwarded, collapsed |
    /// | waited for another agent's fetch | forwarded, collapsed |
    /// | found an entry that was there before, on a second look at a slow store or at a shared one | hit |
    async fn forwarded(
        self: &Arc<Self>,
        key: &SecretKey,
        purpose: Purpose,
        policy: &Policy,
        reason: ForwardReason,
        arrived_at: Duration,
    ) -> Result<Answer, Arc<SourceError>> {
        let (mut joined, mut outcome) = self.fetched(key, purpose, arrived_at).await;
        if joined
            && let Err(error) = &outcome
            && error.kind() == SourceErrorKind::BudgetSpent
        {
            // It may have been the check of a watched secret, which does not wait for a turn. A reader does.
            (joined, outcome) = self.fetched(key, purpose, arrived_at).await;
        }
        let fetched = outcome?;
        let now = self.timeline.now();
        let age = now.since(fetched.asked_at);
        if let Some(found) = &fetched.found
            && !found.waited
            && fetched.asked_at < self.timeline.at(arrived_at)
            && let Freshness::Fresh { left } = self.judge(policy, &found.lifetime, now)
        {
            // The first look at a slow store came to nothing, and the second found it: KMS was not asked.
            self.metrics.hit.inc();
            return Ok(Answer {
                age,
                secret: fetched.secret,
                status: CacheStatus::Hit { left },
            });
        }
        let collapsed = joined || fetched.found.is_some();
        if collapsed {
            self.metrics.collapsed.inc();
        } else {
            self.metrics.miss.inc();
        }
        Ok(Answer {
            age,
            secret: fetched.secret,
            status: CacheStatus::Forwarded {
                reason,
                stored: fetched.stored,
                collapsed,
            },
        })
    }
}

/// Error of a fetch that panicked.
pub(super) fn crashed() -> Arc<SourceError> {
    Arc::new(SourceError::new(
        SourceErrorKind::Unavailable,
        "the fetch crashed; this is a defect of the agent",
    ))
}
