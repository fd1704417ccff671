//! Random histories against a plain model of what the agent promises: never older than the hard limit, never
//! silent about it, never another identity's, never after KMS decided against it, never more calls than one.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics"
)]

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use kms_agent_core::config::{ConfigTable, RawTable};
use kms_agent_core::metric::ReadMetrics;
use kms_agent_core::registry::BackendContext;
use kms_agent_core::secret::Fetched;
use kms_agent_core::source::{CredentialState, FetchRequest};
use kms_agent_core::{
    Answer, CacheStatus, Clock, Demand, Policy, Scope, SecretId, SecretService, SecretSource,
    SourceError, SourceErrorKind, Timeline,
};
use kms_agent_test_support::{ManualClock, answer, secret_ref};
use proptest::prelude::*;

const NAMES: [&str; 3] = ["a", "b", "c"];
const NEGATIVE_TTL: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
enum Step {
    Pass(Duration),
    Put(usize),
    Delete(usize),
    Trouble(Option<SourceErrorKind>),
    Read(usize, Demand),
    Purge(usize),
    PurgeAll,
    Rules {
        ttl: u64,
        max_stale: u64,
        serve_stale: bool,
    },
    Become(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let trouble = prop_oneof![
        2 => Just(None),
        1 => Just(Some(SourceErrorKind::Unavailable)),
        1 => Just(Some(SourceErrorKind::Throttled)),
        1 => Just(Some(SourceErrorKind::ServerFailure)),
        1 => Just(Some(SourceErrorKind::NoCredentials)),
        1 => Just(Some(SourceErrorKind::Refused)),
    ];
    prop_oneof![
        6 => (0_u64..400_000).prop_map(|millis| Step::Pass(Duration::from_millis(millis))),
        3 => name.clone().prop_map(Step::Put),
        1 => name.clone().prop_map(Step::Delete),
        3 => trouble.prop_map(Step::Trouble),
        12 => (name.clone(), prop_oneof![4 => Just(Demand::Any), 1 => Just(Demand::RefreshNow)])
            .prop_map(|(name, demand)| Step::Read(name, demand)),
        1 => name.prop_map(Step::Purge),
        1 => Just(Step::PurgeAll),
        1 => (prop_oneof![Just(0), Just(60), Just(300)], prop_oneof![Just(0), Just(600), Just(3600)], any::<bool>())
            .prop_map(|(ttl, max_stale, serve_stale)| Step::Rules { ttl, max_stale, serve_stale }),
        1 => (0_u8..2).prop_map(Step::Become),
    ]
}

/// KMS as it is: what each secret was when, and who may ask.
struct World {
    clock: ManualClock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By name: from when on it had which value, `None` where there was none.
    history: HashMap<&'static str, Vec<(Duration, Option<u64>)>>,
    next_value: u64,
    trouble: Option<SourceErrorKind>,
    identity: u8,
    /// When KMS was asked for what.
    calls: Vec<(Duration, String)>,
    /// When KMS last said that a secret is not to be had, by name and identity.
    decided_at: HashMap<(String, u8), Duration>,
    /// When KMS last said anything but a value, by name.
    refused_at: HashMap<String, Duration>,
    /// When KMS last failed to say anything.
    failed_at: Option<Duration>,
}

impl World {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panicked with it")
    }

    fn set(&self, name: &'static str, exists: bool) {
        let at = self.clock.boot();
        let mut state = self.lock();
        state.next_value += 1;
        let value = exists.then_some(state.next_value);
        state.history.entry(name).or_default().push((at, value));
    }

    /// The values that `name` had at `at`: two if it changed in that very moment.
    fn values_at(&self, name: &str, at: Duration) -> Vec<Option<u64>> {
        let state = self.lock();
        let history = state
            .history
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let before = history
            .iter()
            .rev()
            .find(|(from, _)| *from < at)
            .map(|(_, value)| *value);
        let during = history
            .iter()
            .filter(|(from, _)| *from == at)
            .map(|(_, value)| *value);
        before.into_iter().chain(during).collect()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

#[async_trait]
impl SecretSource for World {
    fn scope(&self) -> Option<Arc<Scope>> {
        Some(Arc::new(Scope {
            endpoint: "kms.example".into(),
            identity: self.lock().identity.to_string().into(),
        }))
    }

    async fn learn_scope(&self, _arrived_at: Duration) {}

    fn region(&self) -> Option<Arc<str>> {
        None
    }

    fn credentials(&self) -> CredentialState {
        CredentialState::default()
    }

    async fn fetch(&self, request: FetchRequest<'_>) -> Result<Fetched, SourceError> {
        let scope = self.scope().expect("it is known");
        let at = self.clock.boot();
        let name = request.secret.id.as_str();
        let mut state = self.lock();
        state.calls.push((at, name.to_owned()));
        if let Some(kind) = state.trouble {
            if kind.is_transient() {
                state.failed_at = Some(at);
            } else {
                state.refused_at.insert(name.to_owned(), at);
            }
            return Err(SourceError::new(kind, "trouble"));
        }
        let value = state
            .history
            .get(name)
            .and_then(|history| history.last()?.1);
        let identity = state.identity;
        let Some(value) = value else {
            state.decided_at.insert((name.to_owned(), identity), at);
            state.refused_at.insert(name.to_owned(), at);
            return Err(SourceError::new(SourceErrorKind::Decision, "there is none"));
        };
        Ok(Fetched {
            scope,
            ..answer(&format!("{name} {value} {identity}"))
        })
    }
}

async fn settle() {
    for _ in 0..30 {
        tokio::task::yield_now().await;
    }
}

struct House {
    world: Arc<World>,
    service: Arc<SecretService>,
    policy: Policy,
}

impl House {
    async fn open() -> Self {
        let clock = ManualClock::default();
        let capacity = NonZeroUsize::new(100).expect("not zero");
        let report = std::cell::RefCell::default();
        let config = (kms_agent_backend_memory::FACTORY.configure)(&mut ConfigTable::root(
            RawTable::default(),
            &report,
        ));
        let context = BackendContext {
            capacity,
            clock: Arc::new(clock.clone()),
        };
        let world = Arc::new(World {
            clock: clock.clone(),
            state: Mutex::default(),
        });
        let policy = Policy {
            negative_ttl: NEGATIVE_TTL,
            ..Policy::default()
        };
        let service = SecretService::new(
            config.open(context).await.expect("it opens"),
            Arc::clone(&world) as _,
            Timeline::new(Arc::new(clock)),
            policy.clone(),
            capacity,
            ReadMetrics::register(&mut prometheus_client::registry::Registry::default()),
        );
        Self {
            world,
            service,
            policy,
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Pass(duration) => self.world.clock.advance(duration),
            Step::Put(name) => self.world.set(NAMES[name], true),
            Step::Delete(name) => self.world.set(NAMES[name], false),
            Step::Trouble(trouble) => self.world.lock().trouble = trouble,
            Step::Purge(name) => {
                let id = SecretId::parse(NAMES[name]).expect("valid");
                self.service.purge(&id).await.expect("purged");
            }
            Step::PurgeAll => {
                self.service.purge_all().await.expect("purged");
                assert_eq!(
                    self.service.backend_stats().await.expect("works").entries,
                    0
                );
            }
            Step::Rules {
                ttl,
                max_stale,
                serve_stale,
            } => {
                self.policy.ttl = Duration::from_secs(ttl);
                self.policy.max_stale = Duration::from_secs(max_stale);
                self.policy.serve_stale = serve_stale;
                self.service.set_policy(self.policy.clone()).await;
            }
            Step::Become(identity) => self.world.lock().identity = identity,
            Step::Read(name, demand) => self.read(NAMES[name], demand).await,
        }
        settle().await;
    }

    async fn read(&self, name: &str, demand: Demand) {
        let (calls_before, decided_at) = {
            let state = self.world.lock();
            let who = (name.to_owned(), state.identity);
            (state.calls.len(), state.decided_at.get(&who).copied())
        };
        let result = self.service.read(&secret_ref(name), demand).await;
        settle().await;
        let calls = self.world.lock().calls.len() - calls_before;
        assert!(calls <= 1, "one read made {calls} calls");
        match result {
            Ok(answer) => {
                // A decision that only the refresh behind this answer brought to light counts for the next reader.
                let outlived =
                    decided_at.is_some_and(|decided_at| self.asked_at(&answer) < decided_at);
                assert!(!outlived, "a copy outlived the decision against it");
                self.judge_answer(name, demand, &answer, calls);
            }
            Err(error) => self.judge_error(name, &error),
        }
    }

    fn asked_at(&self, answer: &Answer) -> Duration {
        self.world.clock.boot().saturating_sub(answer.age)
    }

    fn judge_answer(&self, name: &str, demand: Demand, answer: &Answer, calls: usize) {
        let asked_at = self.asked_at(answer);
        let text = std::str::from_utf8(answer.secret.answer.expose()).expect("text");
        let mut parts = text.split(' ');
        assert_eq!(parts.next(), Some(name), "the right secret");
        let value = parts.next().and_then(|value| value.parse().ok());
        let was = self.world.values_at(name, asked_at);
        assert!(
            was.contains(&value),
            "{text} claims to be of {asked_at:?}, when it was {was:?}"
        );
        let identity = self.world.lock().identity.to_string();
        assert_eq!(parts.next(), Some(identity.as_str()), "the right identity");
        match &answer.status {
            CacheStatus::Hit { left } => {
                assert_eq!(
                    answer.age + *left,
                    self.policy.ttl,
                    "fresh for the rest of its TTL"
                );
                assert_eq!(demand, Demand::Any);
            }
            CacheStatus::Forwarded { .. } => {
                assert_eq!(
                    (answer.age, calls),
                    (Duration::ZERO, 1),
                    "what KMS says now"
                );
            }
            CacheStatus::Stale { since, .. } => {
                assert!(self.policy.serve_stale && demand == Demand::Any);
                assert_eq!(
                    answer.age,
                    self.policy.ttl + *since,
                    "it tells how stale it is"
                );
                assert!(*since < self.policy.max_stale, "never past the hard limit");
                let failed_at = self.world.lock().failed_at;
                assert!(
                    failed_at.is_some_and(|at| at >= asked_at),
                    "KMS has failed since"
                );
            }
        }
    }

    fn judge_error(&self, name: &str, error: &SourceError) {
        let now = self.world.clock.boot();
        let state = self.world.lock();
        if error.kind().is_transient() {
            assert_eq!(
                state.failed_at,
                Some(now),
                "transient failures are never remembered for readers"
            );
        } else {
            let refused_at = state.refused_at.get(name).expect("KMS has refused it");
            assert!(
                now < *refused_at + NEGATIVE_TTL.max(Duration::from_nanos(1)),
                "a refusal outlived its time"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_the_promises(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut house = House::open().await;
            for step in steps {
                house.take(step).await;
            }
        });
    }
}
