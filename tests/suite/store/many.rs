//! A store with many entries, from which the next process answers at once and without network.

use kms_agent_test_support::{Setup, TestAgent, http, times};

use super::{make_durable, setup_for, until};
use crate::harness::cloud::Cloud;

fn name(n: usize) -> String {
    format!("app/{n}")
}

/// Checks that the answer is right and comes from the cache.
fn assert_held(agent: &TestAgent, n: usize) {
    let reply = agent.read(&name(n));
    assert_eq!(reply.status, 200, "{n}: {}", reply.text());
    assert_eq!(reply.json()["SecretData"], format!("value of {n}"));
    let status = reply.header("cache-status").unwrap();
    assert!(status.starts_with("kms-agent; hit"), "{n}: {status}");
}

fn entries(agent: &TestAgent) -> u64 {
    let status = agent.get("/agent/status").json();
    status["cache"]["entries"].as_u64().unwrap()
}

/// Starts another process and checks one entry at once, and then all of them.
fn start_and_read(setup: &Setup, count: usize) -> TestAgent {
    let agent = setup.clone().start();
    assert_held(&agent, count / 2);
    for n in 0..count {
        assert_held(&agent, n);
    }
    // The count is an estimate while the index is built.
    until("all is counted", || entries(&agent) == count as u64);
    assert_eq!(http::get(agent.port(), "/readyz", &[]).status, 200);
    agent
}

#[test]
fn a_full_store_answers_after_any_end_and_without_network() {
    let count = times("KMS_AGENT_TEST_ENTRIES", 1000);
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::start();
    let setup = setup_for(&cloud, folder.path(), count + 1);
    let agent = setup.clone().start();
    for n in 0..count {
        cloud.put(&name(n), &format!("value of {n}"));
        assert_eq!(agent.read(&name(n)).status, 200);
    }
    make_durable(&cloud, &agent);
    until("all is counted", || entries(&agent) == count as u64);
    agent.kill();

    // From here on KMS does not exist.
    drop(cloud);
    let (status, said) = start_and_read(&setup, count).stop();
    assert_eq!(status.code(), Some(0), "{said}");
    start_and_read(&setup, count).kill();
    start_and_read(&setup, count).stop();
}
