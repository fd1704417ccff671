//! Several agents on one real server.
mod support;

use std::time::Duration;

use kms_agent_cache::{CacheStatus, Policy};
use kms_agent_core::source::KmsRefusal;
use kms_agent_core::{SecretId, SourceError, SourceErrorKind};

use self::support::{Agent, Key, Server, agent, text};

async fn fleet(server: &Server, key: &Key, count: usize) -> Vec<Agent> {
    let mut agents = Vec::new();
    for _ in 0..count {
        agents.push(agent(&server.url(), &key.path(), Policy::default()).await);
    }
    agents
}

fn calls(agents: &[Agent]) -> usize {
    agents.iter().map(|agent| agent.source.calls().len()).sum()
}

fn refusal(code: &str, kind: SourceErrorKind) -> SourceError {
    SourceError::new(kind, "KMS refused").with_refusal(KmsRefusal {
        status: 404,
        code: code.to_owned(),
        message: "the message".to_owned(),
        request_id: None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_asks_kms_once_for_a_cold_key() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let key = Key::default();
    let agents = fleet(&server, &key, 4).await;
    for agent in &agents {
        agent.source.then_value("v1");
        agent.source.hold();
    }
    let reads = agents.iter().map(|agent| agent.read("s"));
    let releases = async {
        // One of them asks; all others wait for it.
        while calls(&agents) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        for agent in &agents {
            agent.source.release(1);
        }
    };
    let (answers, ()) = tokio::join!(futures_join(reads), releases);
    assert_eq!(calls(&agents), 1);
    let mut collapsed = 0;
    for answer in answers {
        let answer = answer.expect("it is answered");
        assert!(text(&answer).contains("v1"));
        match answer.status {
            CacheStatus::Forwarded {
                collapsed: true, ..
            } => collapsed += 1,
            CacheStatus::Forwarded { stored, .. } => assert!(stored),
            other => assert!(matches!(other, CacheStatus::Hit { .. }), "{other:?}"),
        }
    }
    assert!(collapsed > 0);
}

async fn futures_join<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = futures.map(Box::pin).collect();
    let mut results = Vec::new();
    std::future::poll_fn(|context| {
        pending.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(result) => {
                results.push(result);
                false
            }
            std::task::Poll::Pending => true,
        });
        if pending.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    results
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_another_agent_is_a_hit_and_nothing_readable_lies_on_the_server() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let key = Key::default();
    let agents = fleet(&server, &key, 2).await;
    agents[0].source.then_value("hidden-value");
    agents[0].value("hidden-name").await;
    agents[1]
        .wait("the entry is there", async |agent: &Agent| {
            agent.has("hidden-name").await
        })
        .await;
    let answer = agents[1].read("hidden-name").await.expect("it is answered");
    assert!(matches!(answer.status, CacheStatus::Hit { .. }));
    assert_eq!(calls(&agents), 1);
    let keys = format!("{:?}", server.command(&["KEYS", "*"]));
    assert!(keys.contains("kms-agent:") && !keys.contains("hidden"));
    let found: Vec<String> = redis::from_redis_value(server.command(&["KEYS", "*"])).expect("keys");
    for name in found {
        let value = server.command(&["GET", &name]);
        let value: Vec<u8> = redis::from_redis_value(value).expect("a value");
        for hidden in [&b"hidden-value"[..], b"hidden-name", b"identity"] {
            assert!(!value.windows(hidden.len()).any(|part| part == hidden));
        }
        let left: i64 =
            redis::from_redis_value(server.command(&["PTTL", &name])).expect("a number");
        assert!(left > 0, "{name} expires");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_reaches_every_agent() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let key = Key::default();
    let agents = fleet(&server, &key, 2).await;
    agents[0].source.then_value("v1");
    agents[0].value("s").await;
    agents[1]
        .wait("the second agent holds it", async |agent: &Agent| {
            agent.has("s").await
        })
        .await;
    let id = SecretId::parse("s").expect("an id");
    agents[0].service.purge(&id).await.expect("it is taken");
    agents[1]
        .wait("the entry is gone", async |agent: &Agent| {
            agent.backend.stats().await.expect("it answers").entries == 0
        })
        .await;
    agents[1].source.then_value("v2");
    assert!(agents[1].value("s").await.contains("v2"));
    assert!(agents[0].value("s").await.contains("v2"));
    assert_eq!(calls(&agents), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_everything_begins_a_new_epoch_for_all() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let key = Key::default();
    let agents = fleet(&server, &key, 2).await;
    for name in ["a", "b"] {
        agents[0].source.then_value("v1");
        agents[0].value(name).await;
    }
    let stored = async |agent: &Agent| {
        let stats = agent.backend.stats().await.expect("it answers");
        stats.store.expect("a store").committed_at.is_some()
    };
    agents[0].wait("they are stored", stored).await;
    assert!(agents[1].value("a").await.contains("v1"));
    agents[0].service.purge_all().await.expect("it is taken");
    agents[1]
        .wait("the entries are gone", async |agent: &Agent| {
            agent.backend.stats().await.expect("it answers").entries == 0
        })
        .await;
    agents[1].source.then_value("v2");
    assert!(agents[1].value("a").await.contains("v2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_removes_the_entry_everywhere_and_is_shared() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let key = Key::default();
    let agents = fleet(&server, &key, 2).await;
    agents[0].source.then_value("v1");
    agents[0].value("s").await;
    let code = "Forbidden.ResourceNotFound";
    agents[0]
        .source
        .then_error(refusal(code, SourceErrorKind::Decision));
    let refused = agents[0].refresh("s").await.expect_err("KMS refused");
    assert_eq!(refused.code(), code);
    let refused = agents[1].read("s").await.expect_err("it is shared");
    assert_eq!(refused.code(), code);
    assert_eq!(calls(&agents), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_now_is_answered_by_a_fetch_that_began_after_it() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let key = Key::default();
    let agents = fleet(&server, &key, 2).await;
    agents[0].source.then_value("v1");
    agents[0].value("s").await;
    agents[1].source.then_value("v2");
    let answer = agents[1].refresh("s").await.expect("it is answered");
    assert!(text(&answer).contains("v2"));
    agents[0]
        .wait("the first agent learns of it", async |agent: &Agent| {
            agent.value("s").await.contains("v2")
        })
        .await;
    assert_eq!(calls(&agents), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_costs_no_reader_an_answer_and_heals() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let key = Key::default();
    let agents = fleet(&server, &key, 2).await;
    agents[0].source.then_value("v1");
    agents[0].value("s").await;
    server.stop();
    assert!(agents[0].value("s").await.contains("v1"), "it is held");
    agents[1].source.then_value("v1");
    assert!(agents[1].value("s").await.contains("v1"), "KMS answers");
    let failed = agents[0]
        .service
        .purge(&SecretId::parse("s").expect("an id"))
        .await;
    assert!(failed.is_err(), "the server has not taken it");
    assert!(server.run(), "it starts again");
    for agent in &agents {
        agent
            .wait("it is connected again", async |agent: &Agent| {
                agent.trouble().await.is_none()
            })
            .await;
    }
    // The purge is repeated, so no agent answers from before.
    agents[1]
        .wait("the purge arrives", async |agent: &Agent| {
            agent.backend.stats().await.expect("it answers").entries == 0
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_left_after_one_time_out() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let key = Key::default();
    let agents = fleet(&server, &key, 1).await;
    server.signal("STOP");
    for n in 0..5 {
        let name = format!("s{n}");
        agents[0].source.then_value("v1");
        assert!(agents[0].value(&name).await.contains("v1"));
    }
    server.signal("CONT");
    agents[0]
        .wait("it is connected again", async |agent: &Agent| {
            agent.trouble().await.is_none()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_emptied_makes_entries_doubtful() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let key = Key::default();
    let agents = fleet(&server, &key, 1).await;
    agents[0].source.then_value("v1");
    agents[0].value("s").await;
    server.command(&["FLUSHALL"]);
    agents[0].source.then_value("v2");
    agents[0]
        .wait("the entry is fetched again", async |agent: &Agent| {
            agent.value("s").await.contains("v2")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_reads_nothing_of_the_fleet() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let (one, other) = (Key::default(), Key::default());
    let first = agent(&server.url(), &one.path(), Policy::default()).await;
    let stranger = agent(&server.url(), &other.path(), Policy::default()).await;
    first.source.then_value("v1");
    first.value("s").await;
    stranger.source.then_value("v2");
    assert!(stranger.value("s").await.contains("v2"));
    assert!(first.value("s").await.contains("v1"));
}
