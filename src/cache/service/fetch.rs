//! A fetch: how callers join or lead it, and its way from the call to KMS into the cache.

use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::SecretSource;
use kms_agent_core::backend::CacheEntry;
use kms_agent_core::fleet::{Begun, Lease, Wish};
use kms_agent_core::lifetime::{Lifetime, Timestamp};
use kms_agent_core::secret::{Fetched, SecretKey, SecretRef};
use kms_agent_core::source::{
    FetchRequest, OVERALL_TIMEOUT, Purpose, SendGate, SourceError, SourceErrorKind,
};

use super::report::ServiceLine;
use super::{FetchOutcome, FetchedAnswer, Found, SecretService, UpstreamState};
use crate::policy::Freshness;
use crate::refresh;
use crate::upstream::call_limit::{LimitReached, MAX_CALLS};
use crate::upstream::single_flight::{Abandonment, Join, Waiter};

/// Longer answers are served and not stored.
pub const MAX_STORED_BYTES: usize = 256 * 1024;

/// Refusal of one identity's permission, which says nothing about the other agents'.
const NO_PERMISSION: &str = "Forbidden.NoPermission";

/// Retry time for a caller beyond the limit of calls.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl SecretService {
    /// Joins the fetch of `key` that is under way, or leads one that outlives its readers as far as `purpose` says.
    pub(super) fn join(
        self: &Arc<Self>,
        key: SecretKey,
        purpose: Purpose,
        join: Join,
        arrived_at: Duration,
    ) -> Waiter<FetchOutcome> {
        let service = Arc::clone(self);
        let order = key.clone();
        let abandonment = match purpose {
            Purpose::Refresh => Abandonment::Continue,
            Purpose::Read | Purpose::RefreshNow | Purpose::Watch => Abandonment::Drop,
        };
        self.single_flight
            .join(&key, join, abandonment, move |gate| async move {
                service.run_fetch(order, purpose, arrived_at, gate).await
            })
    }

    /// Starts a background fetch, unless one is under way.
    pub(super) fn refresh(self: &Arc<Self>, key: &SecretKey) {
        drop(self.join(key.clone(), Purpose::Refresh, Join::Any, self.boot()));
    }

    /// Runs one fetch: asks KMS, judges and stores the answer, even when no reader waits for it any more.
    async fn run_fetch(
        &self,
        mut key: SecretKey,
        purpose: Purpose,
        arrived_at: Duration,
        gate: SendGate,
    ) -> FetchOutcome {
        // It may have been learnt since the reader looked into the cache.
        if let Some(scope) = self.scope() {
            key.scope = scope;
        }
        if matches!(purpose, Purpose::Read | Purpose::Refresh)
            && let Some(outcome) = self.stored_meanwhile(&key).await
        {
            return outcome;
        }
        let mut lease = match self.take_lease(&key, purpose).await {
            Ok(lease) => lease,
            Err(outcome) => return outcome,
        };
        let mark = self.purge_log.mark();
        let SourceReply {
            result,
            asked_at,
            source,
        } = self.ask(&key.secret, purpose, arrived_at, &gate).await;
        match result {
            Ok(fetched) => {
                // Before anything of this process is stored: what the clock says is written down with it.
                self.pass_on_confirmation();
                self.answered(&key);
                if key.scope != fetched.scope {
                    // The lease is that of another key.
                    lease = None;
                    key.scope = Arc::clone(&fetched.scope);
                }
                self.negative.forget(&key);
                let stored = self.store(&key, lease, &fetched, asked_at, mark).await;
                if let Some(watched) = self.watches.get(&key.secret) {
                    let rotates_at = fetched.rotates_at.map(|at| self.timeline.place(at));
                    watched.note(&fetched.secret.version_id, asked_at, rotates_at);
                }
                Ok(FetchedAnswer {
                    secret: fetched.secret,
                    asked_at,
                    stored,
                    found: None,
                })
            }
            // KMS was not asked, and readers may still have a turn.
            Err(error)
                if purpose == Purpose::Watch && error.kind() == SourceErrorKind::BudgetSpent =>
            {
                Err(Arc::new(error))
            }
            Err(error) if error.kind().is_transient() => {
                let error = Arc::new(error);
                self.failed(&key, &error);
                if let Some(lease) = lease {
                    let retry_after = self.outage.retry_after(&key, self.boot());
                    lease.fail(&error, retry_after).await;
                }
                Err(error)
            }
            Err(error) => {
                self.answered(&key);
                // Of the source that was asked: a reload may have put another in its place.
                if let Some(scope) = source.scope().filter(|scope| *scope != key.scope) {
                    lease = None;
                    key.scope = scope;
                }
                let error = Arc::new(error);
                let is_decision = error.kind() == SourceErrorKind::Decision;
                if is_decision {
                    let _together = self.writing.read().await;
                    // A failed removal is counted and logged by the backend's wrapper.
                    let _ = self.backend.remove(&key).await;
                }
                if let Some(lease) = lease {
                    let is_of_this_agent = error.code() == NO_PERMISSION;
                    let remembered_for = if is_of_this_agent {
                        Duration::ZERO
                    } else {
                        self.policy.load().general.negative_ttl
                    };
                    lease.refuse(&error, is_decision, remembered_for).await;
                }
                self.report(ServiceLine::Refused, &key, error.code());
                if let Some(watched) = self.watches.get(&key.secret) {
                    watched.note_refusal(&error, self.timeline.now());
                }
                self.negative
                    .remember(key, Arc::clone(&error), self.timeline.now());
                Err(error)
            }
        }
    }

    /// Asks KMS: together with other fetches if a batch waits for this one, else by a call of its own.
    async fn ask(
        &self,
        secret: &SecretRef,
        purpose: Purpose,
        arrived_at: Duration,
        gate: &SendGate,
    ) -> SourceReply {
        let asked_at = self.timeline.now();
        let source = Arc::clone(&self.source.load());
        let in_batch = match purpose {
            Purpose::Read | Purpose::Refresh => self.fetch_in_batch(secret, gate).await,
            Purpose::RefreshNow | Purpose::Watch => None,
        };
        if let Some(outcome) = in_batch {
            return SourceReply {
                result: outcome.and_then(|fetched| require_version(secret, fetched)),
                asked_at,
                source,
            };
        }
        let clock = &**self.timeline.clock();
        let permit = self
            .calls
            .acquire(purpose, clock, arrived_at + OVERALL_TIMEOUT)
            .await;
        let asked_at = self.timeline.now();
        let source = Arc::clone(&self.source.load());
        let result = match permit {
            Ok(_permit) => {
                let request = FetchRequest {
                    secret,
                    purpose,
                    arrived_at,
                    gate,
                    extended_config: self.policy.load().wants_extended_config(&secret.id),
                };
                source.fetch(request).await
            }
            Err(LimitReached) => Err(too_many_calls()),
        };
        SourceReply {
            result: result.and_then(|fetched| require_version(secret, fetched)),
            asked_at,
            source,
        }
    }

    /// Outcome of an earlier fetch that was stored after this reader looked into the cache.
    async fn stored_meanwhile(&self, key: &SecretKey) -> Option<FetchOutcome> {
        let policies = self.policy.load_full();
        let policy = policies.of(&key.secret.id);
        if let Some(refusal) = self.recall(key, policy) {
            return Some(Err(refusal));
        }
        let now = self.timeline.now();
        let entry = self.entry(key, now).await?;
        let freshness = self.judge(policy, &entry.lifetime, now);
        let is_wanted = !matches!(freshness, Freshness::Fresh { .. })
            || refresh::is_due(key, &entry.lifetime, freshness, now);
        (!is_wanted).then_some(Ok(FetchedAnswer {
            secret: entry.secret,
            asked_at: entry.lifetime.fetched_at,
            stored: true,
            found: Some(Found {
                lifetime: entry.lifetime,
                waited: false,
            }),
        }))
    }

    /// Takes the lease of `key` where other agents share the backend. The error is the outcome of a fetch that
    /// another agent has made.
    async fn take_lease(
        &self,
        key: &SecretKey,
        purpose: Purpose,
    ) -> Result<Option<Box<dyn Lease>>, FetchOutcome> {
        let policies = self.policy.load_full();
        let policy = policies.of(&key.secret.id);
        let Some(fleet) = self.backend.fleet() else {
            return Ok(None);
        };
        if policy.ttl.is_zero() || self.scope().is_none() {
            return Ok(None);
        }
        let watched = self.watches.get(&key.secret);
        let satisfied_by = |lifetime: &Lifetime| {
            let now = self.timeline.now();
            let freshness = self.judge(policy, lifetime, now);
            let satisfies = match purpose {
                Purpose::Refresh => !refresh::is_due(key, lifetime, freshness, now),
                Purpose::Watch => watched.as_ref().is_none_or(|watched| {
                    let known = watched.known();
                    known.is_satisfied_by(lifetime.fetched_at, policy.watch_every, now)
                }),
                Purpose::Read | Purpose::RefreshNow => true,
            };
            matches!(freshness, Freshness::Fresh { .. }) && satisfies
        };
        let wish = Wish {
            purpose,
            now: self.timeline.now(),
            satisfied_by: &satisfied_by,
        };
        match fleet.begin(key, wish).await {
            Begun::Leads(lease) => Ok(Some(lease)),
            Begun::Found { entry, waited } => {
                let lifetime = entry.lifetime;
                if let Some(watched) = &watched {
                    let version = &entry.secret.version_id;
                    watched.note(version, lifetime.fetched_at, lifetime.rotates_at);
                }
                Err(Ok(FetchedAnswer {
                    asked_at: lifetime.fetched_at,
                    found: Some(Found { lifetime, waited }),
                    secret: entry.secret,
                    stored: true,
                }))
            }
            Begun::Failed(error) => {
                if error.kind().is_transient() {
                    self.failed(key, &error);
                } else {
                    let now = self.timeline.now();
                    if let Some(watched) = &watched {
                        watched.note_refusal(&error, now);
                    }
                    self.negative.remember(key.clone(), Arc::clone(&error), now);
                }
                Err(Err(error))
            }
        }
    }

    /// Notes that KMS could not be asked for `key`.
    fn failed(&self, key: &SecretKey, error: &SourceError) {
        let first = self.outage.failed(
            key,
            error.kind(),
            error.code(),
            self.boot(),
            error.retry_after(),
        );
        self.note_failure(error);
        self.report_failure(key, error, first);
    }

    /// Puts what was fetched into the backend, unless it was purged since `mark`. What is not to be stored
    /// takes the place of an older copy all the same: that one is outdated.
    async fn store(
        &self,
        key: &SecretKey,
        lease: Option<Box<dyn Lease>>,
        fetched: &Fetched,
        asked_at: Timestamp,
        mark: u64,
    ) -> bool {
        let _together = self.writing.read().await;
        let policies = self.policy.load();
        let policy = policies.of(&key.secret.id);
        if policy.ttl.is_zero() || self.purge_log.has_covered_since(mark, &key.secret.id) {
            return false;
        }
        if fetched.secret.answer.len() > MAX_STORED_BYTES {
            // A failed removal is counted and logged by the backend's wrapper.
            let _ = self.backend.remove(key).await;
            if let Some(lease) = lease {
                lease.discard().await;
            }
            return false;
        }
        let rotates_at = fetched.rotates_at.map(|at| self.timeline.place(at));
        let entry = CacheEntry {
            secret: fetched.secret.clone(),
            lifetime: policy.stamp(asked_at, rotates_at),
        };
        match lease {
            Some(lease) => lease.store(entry).await.unwrap_or(false),
            None => self.backend.put(key, entry).await.is_ok(),
        }
    }

    /// KMS said something about `key`.
    fn answered(&self, key: &SecretKey) {
        if self.outage.answered(key, self.boot()) {
            self.report(ServiceLine::Recovered, key, "");
        }
        self.note_answer();
    }

    /// KMS answered, be it with a refusal.
    pub(super) fn note_answer(&self) {
        *self.lock_upstream() = UpstreamState {
            last_success_at: Some(self.timeline.now()),
            failing: None,
            reached: true,
            identity_refused: false,
        };
    }

    /// KMS could not be asked, or had no answer to give.
    pub(super) fn note_failure(&self, error: &SourceError) {
        let mut upstream = self.lock_upstream();
        upstream.failing = Some(error.code().to_owned());
        match error.kind() {
            SourceErrorKind::IdentityRefused => {
                (upstream.reached, upstream.identity_refused) = (true, true);
            }
            SourceErrorKind::Throttled
            | SourceErrorKind::ServerFailure
            | SourceErrorKind::AccountRefused
            | SourceErrorKind::ClockSkew => upstream.reached = true,
            _ => {}
        }
    }
}

/// Answer of KMS, when it was asked, and the source that asked it.
struct SourceReply {
    result: Result<Fetched, SourceError>,
    asked_at: Timestamp,
    source: Arc<Arc<dyn SecretSource>>,
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

fn too_many_calls() -> SourceError {
    SourceError::new(
        SourceErrorKind::BudgetSpent,
        format!("as many calls to KMS are under way as the agent makes at once ({MAX_CALLS})"),
    )
    .with_retry_after(Some(RETRY_AFTER))
}
