//! The agent without its HTTP: a service over the backend, and the model beside it.

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

use super::book::{Book, Owned};
use super::read::Read;
use super::step::{Restart, Rules, Step};
use super::world::{Identity, Which, World, reference};
use crate::Fixture;

/// More than there are keys, so that nothing is evicted.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(100).expect("not zero");

/// How often upkeep is done.
const UPKEEP: Duration = Duration::from_secs(1);

pub(super) struct House<'f, F> {
    fixture: &'f F,
    clock: ManualClock,
    world: Arc<World>,
    policy: Policy,
    book: Book,
    process: Process,
}

/// What ends when the agent ends.
struct Process {
    backend: Arc<FaultyBackend>,
    service: Arc<SecretService>,
    upkeep: JoinHandle<()>,
}

impl Process {
    async fn start(
        fixture: &impl Fixture,
        clock: &ManualClock,
        world: &Arc<World>,
        policy: &Policy,
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let context = BackendContext {
            capacity: CAPACITY,
            clock: Arc::clone(&clock),
        };
        let backend = FaultyBackend::new(fixture.open(context).await);
        backend.set_dawdling(true);
        let timeline = match backend.info().resumed {
            Some(resumed) => Timeline::resume(clock, &resumed),
            None => Timeline::new(clock),
        };
        let service = SecretService::new(
            Arc::clone(&backend) as _,
            Arc::clone(world) as _,
            timeline,
            policy.clone(),
            CAPACITY,
            ReadMetrics::register(&mut prometheus_client::registry::Registry::default()),
        );
        let upkeep = tokio::spawn(Arc::clone(&service).maintain());
        Self {
            backend,
            service,
            upkeep,
        }
    }

    async fn end(self, closed: bool) {
        self.upkeep.abort();
        // It has been told to end; that it was is no failure.
        let _ = self.upkeep.await;
        if closed {
            self.service.close().await.expect("it closes");
        } else {
            self.backend.flush().await.expect("it flushes");
        }
        drop(self.service);
        let left = Arc::strong_count(&self.backend);
        assert_eq!(left, 1, "somebody holds on to the backend");
    }
}

impl<'f, F: Fixture> House<'f, F> {
    pub(super) async fn open(fixture: &'f F) -> Self {
        let clock = ManualClock::default();
        let world = World::new(clock.clone());
        let policy = Policy::default();
        let process = Process::start(fixture, &clock, &world, &policy).await;
        let house = Self {
            fixture,
            clock,
            world,
            policy,
            book: Book::default(),
            process,
        };
        house.settle().await;
        house
    }

    pub(super) async fn close(self) {
        self.process.end(true).await;
    }

    pub(super) async fn take(mut self, step: Step) -> Self {
        match step {
            Step::Pass(duration) => self.pass(duration).await,
            Step::SetWall(millis) => {
                let wall = self.clock.wall().as_millis() + millis;
                self.clock.set_wall(Timestamp::from_millis(wall));
            }
            Step::Put(name, rotates_after) => self.world.put(name, rotates_after),
            Step::Delete(name) => self.world.delete(name),
            Step::Trouble(trouble) => self.world.set_trouble(trouble),
            Step::Read {
                name,
                which,
                demand,
                readers,
            } => self.read(name, which, demand, readers).await,
            Step::Purge(name) => {
                let id = reference(name, Which::Current).id;
                self.process.service.purge(&id).await.expect("purged");
                self.book.purge(&id);
            }
            Step::PurgeAll => {
                self.process.service.purge_all().await.expect("purged");
                self.book.purge_all();
                assert!(self.held().await.is_empty());
            }
            Step::Reload(rules) => self.reload(rules).await,
            Step::Become(identity) => self.world.set_identity(identity),
            Step::Restart(restart) => self = self.restart(restart).await,
        }
        self.settle().await;
        let calls = self.world.take_calls();
        assert_eq!(calls.len(), 0, "{calls:?} for nobody");
        self
    }

    async fn pass(&mut self, duration: Duration) {
        self.clock.advance(duration);
        self.settle().await;
        // A store that was just opened may not have known yet what is dead in it. Listing it shows that it does.
        self.held().await;
        self.clock.advance(UPKEEP);
        self.settle().await;
        let held = self.held().await;
        let (known, now) = (self.world.known_identity(), self.now());
        self.book.upkeep(known, &self.policy, now, &held);
    }

    async fn reload(&mut self, rules: Rules) {
        self.policy = Policy {
            ttl: rules.ttl,
            max_stale: rules.max_stale,
            negative_ttl: rules.negative_ttl,
            refresh_ahead: rules.refresh_ahead,
            serve_stale: rules.serve_stale,
        };
        self.process.service.set_policy(self.policy.clone()).await;
        self.book.reload(self.identity(), &self.policy, self.now());
    }

    async fn restart(self, restart: Restart) -> Self {
        let ended_at = self.now();
        let is_durable = self.process.backend.info().durable;
        let Self {
            fixture,
            clock,
            world,
            policy,
            mut book,
            process,
        } = self;
        process.end(restart.closed).await;
        clock.advance(restart.away);
        clock.set_wall(clock.wall().minus(restart.behind));
        world.forget_identity();
        if restart.offline {
            world.set_trouble(Some(SourceErrorKind::Unavailable));
        }
        book.restart(is_durable);
        let process = Process::start(fixture, &clock, &world, &policy).await;
        if let Some(resumed) = process.backend.info().resumed {
            let now = process.service.timeline().now();
            book.resume(ended_at, &resumed, (now, clock.wall()));
        }
        Self {
            fixture,
            clock,
            world,
            policy,
            book,
            process,
        }
    }

    async fn read(&mut self, name: usize, which: Which, demand: Demand, readers: usize) {
        let secret = reference(name, which);
        let now = self.now();
        let identity = self.identity();
        let owned = identity.map(|identity| (identity, secret.clone()));
        let policy = self.policy.clone();
        let mut read = Read::begin(
            &self.book,
            &secret,
            (demand, readers),
            (&policy, now),
            owned.as_ref(),
        );
        let mut crowd = JoinSet::new();
        for _ in 0..readers {
            let (service, secret) = (Arc::clone(&self.process.service), secret.clone());
            crowd.spawn(async move { service.read(&secret, demand).await });
        }
        let results = crowd.join_all().await;
        self.settle().await;
        read.calls = self.world.take_calls();
        for call in &read.calls {
            let fetched = self.book.note(call, identity, &policy, now);
            read.fetched.extend(fetched);
        }
        read.judge_calls();
        for result in &results {
            read.judge(result);
        }
    }

    /// As whom the cache is asked: what the agent knows to be, else what it was.
    fn identity(&self) -> Option<Identity> {
        self.world.known_identity().or(self.book.resumed)
    }

    fn now(&self) -> Timestamp {
        self.process.service.timeline().now()
    }

    /// What the backend lists, and when it was asked for.
    async fn held(&self) -> BTreeMap<Owned, Timestamp> {
        let page = self.process.service.entries(None, CAPACITY).await;
        let items = page.expect("it lists").items;
        items
            .into_iter()
            .map(|item| {
                let identity = item.key.scope.identity.parse().expect("a number");
                let owned = (identity, item.key.secret);
                (owned, item.lifetime.fetched_at)
            })
            .collect()
    }

    /// Waits until nothing is under way: only upkeep is left, and it sleeps.
    async fn settle(&self) {
        let metrics = tokio::runtime::Handle::current().metrics();
        loop {
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            if metrics.num_alive_tasks() == 1 && self.clock.sleepers() == 1 {
                return;
            }
            // What is under way waits for a thread of the backend's own.
            std::thread::yield_now();
        }
    }
}
