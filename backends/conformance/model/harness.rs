//! The agent without HTTP: a service over the backend under test, with the model beside it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_cache::metric::ReadMetrics;
use kms_agent_cache::{Demand, Policy, SecretService};
use kms_agent_core::registry::BackendContext;
use kms_agent_core::{CacheBackend, Clock, SourceErrorKind, Timeline, Timestamp};
use kms_agent_test_support::{FaultyBackend, ManualClock};
use tokio::task::{JoinHandle, JoinSet};

use super::expected::{CopyKey, Expected};
use super::fake_kms::{FakeKms, Identity, WantedVersion, reference};
use super::read::Read;
use super::step::{HistoryStep, Restart, Rules};
use crate::Fixture;

/// More than there are keys, so that nothing is evicted.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(100).expect("not zero");

/// Interval of maintenance.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Harness<'f, F> {
    fixture: &'f F,
    clock: ManualClock,
    kms: Arc<FakeKms>,
    policy: Policy,
    expected: Expected,
    process: Process,
}

/// Parts of one agent process.
struct Process {
    backend: Arc<FaultyBackend>,
    service: Arc<SecretService>,
    maintenance: JoinHandle<()>,
}

impl Process {
    async fn start(
        fixture: &impl Fixture,
        clock: &ManualClock,
        kms: &Arc<FakeKms>,
        policy: &Policy,
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let context = BackendContext {
            capacity: CAPACITY,
            clock: Arc::clone(&clock),
            data_keys: None,
        };
        let backend = FaultyBackend::new(fixture.open(context).await);
        backend.set_dawdling(true);
        let timeline = match backend.info().resumed {
            Some(resumed) => Timeline::resume(clock, &resumed),
            None => Timeline::new(clock),
        };
        let service = SecretService::new(
            Arc::clone(&backend) as _,
            Arc::clone(kms) as _,
            timeline,
            policy.clone(),
            CAPACITY,
            ReadMetrics::register(&mut prometheus_client::registry::Registry::default()),
        );
        let maintenance = tokio::spawn(Arc::clone(&service).maintain());
        Self {
            backend,
            service,
            maintenance,
        }
    }

    async fn end(self, closed: bool) {
        self.maintenance.abort();
        // The task was aborted, so its error is expected.
        let _ = self.maintenance.await;
        if closed {
            self.service.close().await.expect("it closes");
        } else {
            self.backend.flush().await.expect("it flushes");
        }
        drop(self.service);
        let left = Arc::strong_count(&self.backend);
        assert_eq!(left, 1, "the backend is still shared");
    }
}

impl<'f, F: Fixture> Harness<'f, F> {
    pub(super) async fn open(fixture: &'f F) -> Self {
        let clock = ManualClock::default();
        let kms = FakeKms::new(clock.clone());
        let policy = Policy::default();
        let process = Process::start(fixture, &clock, &kms, &policy).await;
        let harness = Self {
            fixture,
            clock,
            kms,
            policy,
            expected: Expected::default(),
            process,
        };
        harness.settle().await;
        harness
    }

    pub(super) async fn close(self) {
        self.process.end(true).await;
    }

    pub(super) async fn take(mut self, step: HistoryStep) -> Self {
        match step {
            HistoryStep::Pass(duration) => self.pass(duration).await,
            HistoryStep::SetWall(millis) => {
                let wall = self.clock.wall().as_millis() + millis;
                self.clock.set_wall(Timestamp::from_millis(wall));
            }
            HistoryStep::Put(name, rotates_after) => self.kms.put(name, rotates_after),
            HistoryStep::Delete(name) => self.kms.delete(name),
            HistoryStep::Fail(failure) => self.kms.set_failure(failure),
            HistoryStep::Read {
                name,
                which,
                demand,
                readers,
            } => self.read(name, which, demand, readers).await,
            HistoryStep::Purge(name) => {
                let id = reference(name, WantedVersion::Current).id;
                self.process.service.purge(&id).await.expect("purged");
                self.expected.purge(&id);
            }
            HistoryStep::PurgeAll => {
                self.process.service.purge_all().await.expect("purged");
                self.expected.purge_all();
                assert!(self.held().await.is_empty());
            }
            HistoryStep::Reload(rules) => self.reload(rules).await,
            HistoryStep::ChangeIdentity(identity) => self.kms.set_identity(identity),
            HistoryStep::Restart(restart) => self = self.restart(restart).await,
        }
        self.settle().await;
        let calls = self.kms.take_calls();
        assert_eq!(calls.len(), 0, "calls without a reader: {calls:?}");
        self
    }

    async fn pass(&mut self, duration: Duration) {
        self.clock.advance(duration);
        self.settle().await;
        // A store that was just opened may still be building its index. Listing it waits for the index.
        self.held().await;
        self.clock.advance(MAINTENANCE_INTERVAL);
        self.settle().await;
        let held = self.held().await;
        let (known, now) = (self.kms.known_identity(), self.now());
        self.expected.maintenance(known, &self.policy, now, &held);
    }

    async fn reload(&mut self, rules: Rules) {
        self.policy = Policy {
            ttl: rules.ttl,
            max_stale: rules.max_stale,
            negative_ttl: rules.negative_ttl,
            refresh_ahead: rules.refresh_ahead,
            serve_stale: rules.serve_stale,
            ..Policy::default()
        };
        self.process.service.set_policy(self.policy.clone()).await;
        self.expected
            .reload(self.identity(), &self.policy, self.now());
    }

    async fn restart(self, restart: Restart) -> Self {
        let ended_at = self.now();
        let is_durable = self.process.backend.info().durable;
        let Self {
            fixture,
            clock,
            kms,
            policy,
            mut expected,
            process,
        } = self;
        process.end(restart.closed).await;
        clock.advance(restart.away);
        clock.set_wall(clock.wall().minus(restart.behind));
        kms.forget_identity();
        if restart.offline {
            kms.set_failure(Some(SourceErrorKind::Unavailable));
        }
        expected.restart(is_durable);
        let process = Process::start(fixture, &clock, &kms, &policy).await;
        if let Some(resumed) = process.backend.info().resumed {
            let now = process.service.timeline().now();
            expected.resume(ended_at, &resumed, (now, clock.wall()));
        }
        Self {
            fixture,
            clock,
            kms,
            policy,
            expected,
            process,
        }
    }

    async fn read(&mut self, name: usize, which: WantedVersion, demand: Demand, readers: usize) {
        let secret = reference(name, which);
        let now = self.now();
        let identity = self.identity();
        let key = identity.map(|identity| (identity, secret.clone()));
        let policy = self.policy.clone();
        let mut read = Read::begin(
            &self.expected,
            &secret,
            (demand, readers),
            (&policy, now),
            key.as_ref(),
        );
        let mut crowd = JoinSet::new();
        for _ in 0..readers {
            let (service, secret) = (Arc::clone(&self.process.service), secret.clone());
            crowd.spawn(async move { service.read(&secret, demand).await });
        }
        let results = crowd.join_all().await;
        self.settle().await;
        read.calls = self.kms.take_calls();
        for call in &read.calls {
            let fetched = self.expected.record(call, identity, &policy, now);
            read.fetched.extend(fetched);
        }
        read.judge_calls();
        for result in &results {
            read.judge(result);
        }
    }

    /// Identity under which the cache is read: the known one, else that of the previous process.
    fn identity(&self) -> Option<Identity> {
        self.kms.known_identity().or(self.expected.resumed)
    }

    fn now(&self) -> Timestamp {
        self.process.service.timeline().now()
    }

    /// Lists the backend's entries with their fetch times.
    async fn held(&self) -> BTreeMap<CopyKey, Timestamp> {
        let page = self.process.service.entries(None, CAPACITY).await;
        let items = page.expect("it lists").items;
        items
            .into_iter()
            .map(|item| {
                let identity = item.key.scope.identity.parse().expect("a number");
                let key = (identity, item.key.secret);
                (key, item.lifetime.fetched_at)
            })
            .collect()
    }

    /// Waits until only the maintenance task is left, and it sleeps.
    async fn settle(&self) {
        let metrics = tokio::runtime::Handle::current().metrics();
        loop {
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            if metrics.num_alive_tasks() == 1 && self.clock.sleepers() == 1 {
                return;
            }
            // The remaining tasks wait for a thread of the backend.
            std::thread::yield_now();
        }
    }
}
