//! Random histories of several agents on one real server, with faults of the server.
//!
//! `KMS_AGENT_TEST_SEED` repeats a history; `KMS_AGENT_TEST_HISTORIES` sets their number.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kms_agent_cache::Policy;
use kms_agent_core::secret::Fetched;
use kms_agent_core::source::{
    BatchOutcome, BatchRequest, CredentialState, FetchRequest, KmsRefusal,
};
use kms_agent_core::{Scope, SecretId, SecretSource, SourceError, SourceErrorKind};
use kms_agent_test_support::Dice;

use self::support::{Agent, Key, LIMIT, Server, agent_of, text};

const NAMES: [&str; 3] = ["a", "b", "c"];
const AGENTS: usize = 3;
const STEPS: usize = 40;
const HISTORIES: u64 = 3;

/// KMS of all agents: the value of a secret is the number of its version.
#[derive(Debug, Default)]
struct FakeKms(Mutex<KmsState>);

#[derive(Debug, Default)]
struct KmsState {
    versions: BTreeMap<String, u64>,
    forbidden: Vec<String>,
    is_down: bool,
}

impl FakeKms {
    fn state(&self) -> MutexGuard<'_, KmsState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn version(&self, name: &str) -> u64 {
        self.state().versions.get(name).copied().unwrap_or(0)
    }
}

#[async_trait]
impl SecretSource for FakeKms {
    fn scope(&self) -> Option<Arc<Scope>> {
        Some(support::cache_key("a").scope)
    }

    async fn learn_scope(&self, _arrived_at: Duration) {}

    fn region(&self) -> Option<Arc<str>> {
        Some("cn-hangzhou".into())
    }

    fn credentials(&self) -> CredentialState {
        CredentialState::default()
    }

    fn hindrance(&self) -> Option<SourceErrorKind> {
        None
    }

    fn confirms_clock(&self) -> bool {
        true
    }

    async fn fetch(&self, request: FetchRequest<'_>) -> Result<Fetched, SourceError> {
        let name = request.secret.id.as_str().to_owned();
        let answer = {
            let state = self.state();
            if state.is_down {
                return Err(SourceError::new(
                    SourceErrorKind::Unavailable,
                    "KMS is down",
                ));
            }
            if state.forbidden.contains(&name) {
                let refusal = KmsRefusal {
                    status: 404,
                    code: "Forbidden.ResourceNotFound".to_owned(),
                    message: "not there".to_owned(),
                    request_id: None,
                };
                return Err(SourceError::new(SourceErrorKind::Decision, "KMS refused")
                    .with_refusal(refusal));
            }
            state.versions.get(&name).copied().unwrap_or(0)
        };
        // Others may rotate and purge while the answer is on its way.
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(kms_agent_test_support::answer(&answer.to_string()))
    }

    async fn fetch_batch(
        &self,
        _request: BatchRequest<'_>,
    ) -> Result<Vec<BatchOutcome>, SourceError> {
        Err(SourceError::new(
            SourceErrorKind::Refused,
            "this source knows no batches",
        ))
    }
}

struct History {
    dice: Dice,
    server: Server,
    key: Key,
    kms: Arc<FakeKms>,
    agents: Vec<Agent<FakeKms>>,
    /// Versions before which every agent's answers must not be any more.
    floors: BTreeMap<&'static str, u64>,
    log: Vec<String>,
}

impl History {
    async fn open(&self) -> Agent<FakeKms> {
        let policy = Policy {
            negative_ttl: Duration::ZERO,
            ..Policy::default()
        };
        agent_of(
            &self.server.url(),
            &self.key.path(),
            policy,
            Arc::clone(&self.kms),
        )
        .await
    }

    async fn value(&self, agent: usize, name: &str) -> Option<u64> {
        let answer = self.agents[agent].read(name).await.ok()?;
        Some(text(&answer).parse().expect("a number"))
    }

    async fn read(&mut self, agent: usize, name: &'static str) {
        let value = self.value(agent, name).await;
        self.log.push(format!("read {agent} {name}: {value:?}"));
        let floor = self.floors.get(name).copied().unwrap_or(0);
        if let Some(value) = value {
            assert!(
                value >= floor && value <= self.kms.version(name),
                "{value} after {floor}: {:#?}",
                self.log
            );
        }
    }

    /// Waits until every agent answers `name` with at least today's version, and holds them to it from then on.
    async fn settle(&mut self, name: &'static str) {
        let version = self.kms.version(name);
        for agent in 0..self.agents.len() {
            let settling = async {
                while self.value(agent, name).await.is_none_or(|it| it < version) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let settled = tokio::time::timeout(LIMIT, settling).await;
            assert!(
                settled.is_ok(),
                "agent {agent} never has {name} {version}: {:#?}",
                self.log
            );
        }
        self.floors.insert(name, version);
    }

    async fn connected(&self) {
        for agent in &self.agents {
            agent.wait_until_connected().await;
        }
    }

    async fn step(&mut self) {
        let (agent, name) = (self.dice.index(AGENTS), self.dice.pick(&NAMES));
        let id = SecretId::parse(name).expect("an id");
        match self.dice.below(100) {
            0..50 => self.read(agent, name).await,
            50..65 => {
                *self
                    .kms
                    .state()
                    .versions
                    .entry(name.to_owned())
                    .or_default() += 1;
                self.log.push(format!("rotate {name}"));
            }
            65..75 => {
                let version = self.kms.version(name);
                self.connected().await;
                let answer = self.agents[agent].refresh(name).await;
                let is_shared = self.agents[agent].trouble().await.is_none();
                self.log.push(format!("refresh {agent} {name}"));
                let answer = answer.expect("KMS answers");
                let value: u64 = text(&answer).parse().expect("a number");
                assert!(value >= version, "{value} < {version}: {:#?}", self.log);
                // An agent that is cut off answers by itself.
                if is_shared {
                    self.settle(name).await;
                }
            }
            75..84 => {
                let purged = self.agents[agent].service.purge(&id).await;
                self.log
                    .push(format!("purge {agent} {name}: {}", purged.is_ok()));
                self.settle(name).await;
            }
            84..87 => {
                // Two that begin at the same time may find another's epoch.
                let purged = self.agents[agent].service.purge_all().await;
                self.log
                    .push(format!("purge all {agent}: {}", purged.is_ok()));
                for name in NAMES {
                    self.settle(name).await;
                }
            }
            87..91 => {
                self.kms.state().forbidden.push(name.to_owned());
                let refused = self.agents[agent].refresh(name).await;
                self.log.push(format!("decide {agent} {name}"));
                refused.expect_err("KMS refuses");
                self.kms.state().forbidden.clear();
                self.settle(name).await;
            }
            91..94 => {
                self.log.push("flush".to_owned());
                self.server.command(&["FLUSHALL"]);
            }
            94..96 => {
                self.log.push("restart the server".to_owned());
                self.server.stop();
                self.read(agent, name).await;
                let purged = self.agents[agent].service.purge(&id).await;
                assert!(purged.is_err(), "the server is down");
                assert!(self.server.run(), "it starts again");
                self.connected().await;
                self.settle(name).await;
            }
            96..98 => {
                self.log.push("the server hangs".to_owned());
                self.server.signal("STOP");
                self.read(agent, name).await;
                self.server.signal("CONT");
                self.connected().await;
            }
            _ => {
                self.log.push(format!("restart agent {agent}"));
                let opened = self.open().await;
                self.agents[agent] = opened;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_history_brings_back_what_was_removed() {
    let count = std::env::var("KMS_AGENT_TEST_HISTORIES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(HISTORIES);
    for _ in 0..count {
        let Some(server) = Server::start(&[]) else {
            return;
        };
        let mut history = History {
            dice: Dice::from_env(),
            server,
            key: Key::default(),
            kms: Arc::default(),
            agents: Vec::new(),
            floors: BTreeMap::new(),
            log: Vec::new(),
        };
        for _ in 0..AGENTS {
            let opened = history.open().await;
            history.agents.push(opened);
        }
        for _ in 0..STEPS {
            history.step().await;
        }
    }
}
