//! Entries follow the current policy, not that of the process that stored them.

use kms_agent_test_support::TestAgent;
use serde_json::Value;

use super::{make_durable, setup_with, until};
use crate::harness::cloud::Cloud;

fn entry(agent: &TestAgent) -> Option<Value> {
    let status = agent.get("/agent/status").json();
    let entries = status["entries"].as_array().unwrap();
    entries.iter().find(|entry| entry["name"] == "s").cloned()
}

#[test]
fn a_longer_life_counts_after_a_restart_for_what_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = setup_with(
        &cloud,
        folder.path(),
        "TtlSeconds = 1\nMaxStaleSeconds = 60",
    )
    .start();
    assert_eq!(agent.read("s").status, 200);
    make_durable(&cloud, &agent);
    agent.stop();

    let longer = setup_with(
        &cloud,
        folder.path(),
        "TtlSeconds = 1\nMaxStaleSeconds = 86400",
    );
    drop(cloud);
    let agent = longer.clone().start();
    until("the entry lives longer", || {
        entry(&agent).is_some_and(|entry| entry["usable_seconds"].as_u64().unwrap() > 60)
    });
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(longer.start().read("s").status, 200);
}

#[test]
fn what_is_dead_by_the_rules_of_a_later_start_is_wiped_from_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = setup_with(&cloud, folder.path(), "TtlSeconds = 86400").start();
    assert_eq!(agent.read("s").status, 200);
    agent.stop();

    let shorter = setup_with(&cloud, folder.path(), "TtlSeconds = 1\nMaxStaleSeconds = 0");
    let agent = shorter.start();
    until("it is wiped", || entry(&agent).is_none());
    agent.stop();
    // Under the old policy again, it is still gone.
    let agent = setup_with(&cloud, folder.path(), "TtlSeconds = 86400").start();
    until("it is known what there is", || {
        agent.get("/agent/status").json()["cache"]["entries"] == 0
    });
    drop(cloud);
    assert_eq!(agent.read("s").status, 503);
}
