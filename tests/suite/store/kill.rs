//! Repeated `kill -9` on one store: durable entries are there, purged ones are not.

use std::path::Path;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kms_agent_core::Timestamp;
use kms_agent_emulator::{Fault, FaultKind};
use kms_agent_test_support::{Dice, Setup, TOKEN, TestAgent, http, times};
use rustix::process::Signal;

use super::ledger::{Ledger, Proven};
use super::{names, setup};
use crate::harness::cloud::Cloud;

/// Concurrent clients, each with its own secrets.
const WRITERS: usize = 3;
const SECRETS_EACH: usize = 20;

struct Run {
    cloud: Cloud,
    setup: Setup,
    ledger: Ledger,
    /// Held exclusively to purge everything.
    everything: RwLock<()>,
}

#[test]
fn what_was_committed_survives_a_kill_at_any_moment_and_what_was_purged_stays_away() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::start();
    let run = Run {
        setup: setup(&cloud, folder.path()),
        cloud,
        ledger: Ledger::default(),
        everything: RwLock::default(),
    };
    let mut dice = Dice::from_env();
    let mut proven = Proven::default();
    for kill in 0..times("KMS_AGENT_TEST_KILLS", 30) {
        eprintln!("kill {kill}");
        let committed_at = run.write_until_killed(&mut dice);
        let found = run.look(&mut dice, folder.path(), committed_at);
        proven.puts += found.puts;
        proven.purges += found.purges;
    }
    eprintln!("{proven:?}");
    assert!(proven.puts > 0 && proven.purges > 0, "{proven:?}");
}

impl Run {
    /// Kills the agent while clients write. Returns the last commit time that it reported.
    fn write_until_killed(&self, dice: &mut Dice) -> Timestamp {
        let agent = self.setup.clone().start();
        let killed = AtomicBool::new(false);
        // Commit times are in seconds, so only longer runs prove anything about them. Shorter runs kill the agent
        // while the store is opened and listed.
        let life = Duration::from_millis(if dice.percent(60) {
            dice.below(200)
        } else {
            1000 + dice.below(500)
        });
        let stops_first = dice.percent(25);
        let stopping = Duration::from_millis(dice.below(30));
        let seeds: Vec<u64> = (0..WRITERS).map(|_| dice.number()).collect();
        let mut committed_at = Timestamp::EPOCH;
        std::thread::scope(|scope| {
            for (writer, seed) in seeds.into_iter().enumerate() {
                let (agent, killed) = (&agent, &killed);
                scope.spawn(move || {
                    let mut dice = Dice::new(seed);
                    while let Ok(()) = self.work(agent, writer, &mut dice) {}
                    assert!(
                        killed.load(Ordering::SeqCst),
                        "it failed by itself:\n{}",
                        agent.stderr()
                    );
                });
            }
            let began = Instant::now();
            while began.elapsed() < life {
                std::thread::sleep(
                    life.saturating_sub(began.elapsed())
                        .min(Duration::from_millis(50)),
                );
                let store = &agent.get("/agent/status").json()["cache"]["store"];
                let told = store["committed_at"]
                    .as_str()
                    .and_then(Timestamp::parse_rfc3339);
                committed_at = committed_at.max(told.unwrap_or(Timestamp::EPOCH));
            }
            killed.store(true, Ordering::SeqCst);
            if stops_first {
                agent.signal(Signal::TERM);
                std::thread::sleep(stopping);
            }
            agent.signal(Signal::KILL);
        });
        committed_at
    }

    /// Writes, purges or reads at random. Fails if the agent does not answer.
    fn work(&self, agent: &TestAgent, writer: usize, dice: &mut Dice) -> std::io::Result<()> {
        if dice.below(400) == 0 {
            return self.purge_all(agent);
        }
        let _together = self.everything.read().unwrap();
        let name = format!("app/{writer}/{}", dice.index(SECRETS_EACH));
        match dice.below(100) {
            0..20 => self.purge(agent, &name),
            20..50 => self.refresh(agent, &name, dice),
            _ => match self.ledger.value(&name) {
                Some(value) => {
                    assert_eq!(read(agent, &name)?, Ok(value));
                    Ok(())
                }
                None => self.refresh(agent, &name, dice),
            },
        }
    }

    fn refresh(&self, agent: &TestAgent, name: &str, dice: &mut Dice) -> std::io::Result<()> {
        let length = if dice.percent(10) { 20_000 } else { 200 };
        let value = format!(
            "{name}-{:016x}-{}",
            dice.number(),
            "x".repeat(dice.index(length))
        );
        self.cloud.put(name, &value);
        let is_held = self.ledger.value(name).is_some();
        self.ledger.begin(name, Some(&value));
        let query = if is_held { "&refreshNow=true" } else { "" };
        assert_eq!(read(agent, &format!("{name}{query}"))?, Ok(value));
        self.ledger.answered(name);
        Ok(())
    }

    fn purge(&self, agent: &TestAgent, name: &str) -> std::io::Result<()> {
        self.ledger.begin(name, None);
        post(agent, &format!("/agent/purge?secretId={name}"))?;
        self.ledger.answered(name);
        Ok(())
    }

    fn purge_all(&self, agent: &TestAgent) -> std::io::Result<()> {
        let _alone = self.everything.write().unwrap();
        let names = self.ledger.names();
        for name in &names {
            self.ledger.begin(name, None);
        }
        post(agent, "/agent/purge?all=true")?;
        for name in &names {
            self.ledger.answered(name);
        }
        Ok(())
    }

    /// Checks the entries of the next agent while KMS is down, and kills that agent too.
    fn look(&self, dice: &mut Dice, folder: &Path, committed_at: Timestamp) -> Proven {
        self.cloud.fault(Fault::new(FaultKind::Cut)).unwrap();
        // The agent is killed before it is ready.
        let unready = self.setup.clone().spawn();
        std::thread::sleep(Duration::from_millis(dice.below(60)));
        unready.kill();
        let agent = self.setup.clone().start();
        let mut proven = Proven::default();
        let mut left = self.ledger.names();
        while !left.is_empty() {
            let name = left.swap_remove(dice.index(left.len()));
            let found = match read(&agent, &name).unwrap() {
                Ok(value) => Some(value),
                Err(status) => {
                    assert_eq!(status, 503);
                    None
                }
            };
            let this = self.ledger.check(&name, found.as_deref(), committed_at);
            proven.puts += this.puts;
            proven.purges += this.purges;
        }
        let status = agent.get("/agent/status").json();
        assert_eq!(status["cache"]["store"]["state"], "ok");
        let said = agent.kill();
        assert!(
            !said.contains("damaged") && !said.contains("ERROR"),
            "{said}"
        );
        assert_eq!(names(&folder.join("cache")), ["store.redb"]);
        assert_eq!(names(&folder.join("keys")), ["store.key"]);
        self.cloud.clear_faults();
        proven
    }
}

/// Returns the value of a secret, or the status of the error.
fn read(agent: &TestAgent, query: &str) -> std::io::Result<Result<String, u16>> {
    let reply = request(
        agent,
        "GET",
        &format!("/secretsmanager/get?secretId={query}"),
    )?;
    Ok(match reply.status {
        200 => Ok(reply.json()["SecretData"].as_str().unwrap().to_owned()),
        status => Err(status),
    })
}

fn post(agent: &TestAgent, target: &str) -> std::io::Result<()> {
    let reply = request(agent, "POST", target)?;
    assert_eq!(reply.status, 200, "{}", reply.text());
    Ok(())
}

fn request(agent: &TestAgent, method: &str, target: &str) -> std::io::Result<http::Reply> {
    let port = agent.port();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost:{port}\r\nX-KMS-Token: {TOKEN}\r\nConnection: close\r\n\r\n"
    );
    http::send(port, request.as_bytes())
}
