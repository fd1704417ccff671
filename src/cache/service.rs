//! The read path.

mod batch;
mod fetch;
mod listing;
mod maintenance;
mod probe;
mod purge;
mod read;
mod report;
mod summary;
mod watch;

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use kms_agent_core::backend::{
    BackendError, BackendInfo, BackendStats, CacheBackend, ScanCursor, ScanPage,
};
use kms_agent_core::clock::Timeline;
use kms_agent_core::lifetime::{Lifetime, Timestamp};
use kms_agent_core::log_gate::LogGate;
use kms_agent_core::secret::{Scope, Secret, SecretKey, SecretRef};
use kms_agent_core::source::{CredentialState, SecretSource, SourceError};
use tokio::sync::RwLock;

use self::batch::Batches;
pub use self::fetch::MAX_STORED_BYTES;
pub use self::listing::Listing;
use self::probe::Probing;
use self::purge::Purges;
use self::report::ServiceLine;
use self::summary::ReadSummary;
use crate::metric::ReadMetrics;
use crate::policy::{Freshness, Policies, Policy};
use crate::purge::PurgeLog;
use crate::shared_run::SharedRun;
use crate::upstream::call_limit::CallLimit;
use crate::upstream::negative::NegativeMemory;
use crate::upstream::outage::Outage;
use crate::upstream::single_flight::SingleFlight;
use crate::watch::Watches;

/// State of the calls to KMS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamState {
    /// Last answer of KMS, refusals included.
    pub last_success_at: Option<Timestamp>,
    /// Code of the last failure while no answer has come since; else the reason why none could come.
    pub failing: Option<String>,
    /// Whether KMS has said anything since the source in use was put in place.
    pub reached: bool,
    /// Whether the last thing KMS said of the agent's own identity is that it refuses it.
    pub identity_refused: bool,
}

/// Answers reads from the cache and from the source, as the policy says.
#[derive(Debug)]
pub struct SecretService {
    /// Store of entries.
    backend: Arc<dyn CacheBackend>,
    /// Source of secrets; a reload swaps it.
    source: ArcSwap<Arc<dyn SecretSource>>,
    /// The agent's time.
    timeline: Timeline,
    /// Today's rules; a reload swaps them.
    policy: ArcSwap<Policies>,
    /// The calls under way.
    single_flight: SingleFlight<FetchOutcome>,
    /// Fetches that share a call to KMS.
    batches: Batches,
    /// Limit of concurrent calls to KMS.
    calls: CallLimit,
    /// The refusals of the last seconds.
    negative: NegativeMemory,
    /// The keys that KMS cannot answer at the moment.
    outage: Outage,
    /// The last outcome over all keys.
    upstream: Mutex<UpstreamState>,
    /// Looks for KMS while no reader does.
    probing: Mutex<Probing>,
    /// Whether an entry was servable, and when that was looked up, in boot time.
    servable: tokio::sync::Mutex<Option<(Duration, bool)>>,
    /// Purges while calls were under way.
    purge_log: PurgeLog,
    /// Purges that wait for one walk over the entries.
    purges: Purges,
    /// The watched secrets.
    pub(crate) watches: Watches,
    /// Held shared to change one entry, and exclusively to read an entry and write it back.
    writing: RwLock<()>,
    /// Held while entries are brought under new rules, so that this runs once at a time.
    restamping: tokio::sync::Mutex<()>,
    /// The list of entries, made once for all who ask at the same time.
    listing: SharedRun<Listing>,
    /// Whether a service has confirmed the wall clock in this process.
    clock_is_confirmed: AtomicBool,
    /// Outcomes of reads.
    metrics: ReadMetrics,
    /// Outcomes that are not logged yet.
    summary: ReadSummary,
    /// Lines that requests cause.
    log: LogGate<ServiceLine>,
}

/// Outcome of one fetch.
type FetchOutcome = Result<FetchedAnswer, Arc<SourceError>>;

#[derive(Clone, Debug)]
struct FetchedAnswer {
    secret: Secret,
    asked_at: Timestamp,
    stored: bool,
    /// Entry that was there already, if one was found.
    found: Option<Found>,
}

/// An entry that made a fetch unnecessary.
#[derive(Clone, Copy, Debug)]
struct Found {
    lifetime: Lifetime,
    /// Whether another agent fetched it while this one waited.
    waited: bool,
}

impl SecretService {
    /// Puts the parts together. `capacity` bounds the memory of refusals and of failing keys.
    pub fn new(
        backend: Arc<dyn CacheBackend>,
        source: Arc<dyn SecretSource>,
        timeline: Timeline,
        policy: impl Into<Policies>,
        capacity: NonZeroUsize,
        metrics: ReadMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            backend,
            source: ArcSwap::from_pointee(source),
            timeline,
            policy: ArcSwap::from_pointee(policy.into()),
            single_flight: SingleFlight::new(),
            batches: Batches::default(),
            calls: CallLimit::default(),
            negative: NegativeMemory::new(capacity),
            outage: Outage::new(capacity),
            upstream: Mutex::default(),
            probing: Mutex::default(),
            servable: tokio::sync::Mutex::default(),
            purge_log: PurgeLog::default(),
            purges: Purges::default(),
            watches: Watches::default(),
            writing: RwLock::default(),
            restamping: tokio::sync::Mutex::default(),
            listing: SharedRun::default(),
            clock_is_confirmed: AtomicBool::new(false),
            metrics,
            summary: ReadSummary::default(),
            log: LogGate::default(),
        })
    }

    /// Name and properties of the backend.
    pub fn backend_info(&self) -> BackendInfo {
        self.backend.info()
    }

    /// State of the backend.
    pub async fn backend_stats(&self) -> Result<BackendStats, BackendError> {
        self.backend.stats().await
    }

    /// The entries held, without their values, a page at a time.
    pub async fn entries(
        &self,
        from: Option<ScanCursor>,
        limit: NonZeroUsize,
    ) -> Result<ScanPage, BackendError> {
        self.backend.scan(from, limit).await
    }

    /// The rules in force.
    pub fn policy(&self) -> Arc<Policies> {
        self.policy.load_full()
    }

    /// State of the calls to KMS.
    pub fn upstream(&self) -> UpstreamState {
        let mut state = self.lock_upstream().clone();
        if state.failing.is_none() {
            let hindrance = self.source.load().hindrance();
            state.failing = hindrance.map(|kind| kind.code().to_owned());
        }
        state
    }

    /// State of the agent's own credentials.
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
            .or_else(|| Some(self.backend.info().resumed?.scope))
    }

    /// Freshness of an entry at `now`. An entry of unknown age is not fresh.
    pub fn judge(&self, policy: &Policy, lifetime: &Lifetime, now: Timestamp) -> Freshness {
        match policy.judge(lifetime, now) {
            Freshness::Fresh { .. } if self.timeline.doubts(lifetime.fetched_at) => {
                policy.of_unknown_age()
            }
            freshness => freshness,
        }
    }

    fn boot(&self) -> Duration {
        self.timeline.clock().boot()
    }

    fn lock_upstream(&self) -> MutexGuard<'_, UpstreamState> {
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Key of `secret` in `scope`. While that is unknown, the key stands for a fetch that files its answer under the
/// scope that it learns.
fn key_in(scope: Option<Arc<Scope>>, secret: SecretRef) -> SecretKey {
    let unknown = || {
        Arc::new(Scope {
            endpoint: Box::default(),
            identity: Box::default(),
        })
    };
    SecretKey {
        scope: scope.unwrap_or_else(unknown),
        secret,
    }
}
