//! Rows about the persistent cache.

use std::fs;
use std::path::Path;

use kms_agent_test_support::{Setup, TestAgent};

use super::row;
use crate::harness::cloud::Cloud;
use crate::harness::namespace::{cache_disk, is_inside, mount};

/// Sets up an agent with a store in `folder`.
pub(super) fn persistent(cloud: &Cloud, folder: &Path) -> Setup {
    with_key(cloud, folder, "keys/store.key")
}

fn with_key(cloud: &Cloud, folder: &Path, key: &str) -> Setup {
    let folder = folder.display();
    cloud.setup().and_config(&format!(
        "[Cache]\nCacheType = \"Persistent\"\n\
         [Cache.Persistent]\nPath = \"{folder}/cache/store.redb\"\nKeyFile = \"{folder}/{key}\"\n"
    ))
}

fn cloud() -> Cloud {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    cloud
}

fn read(agent: &TestAgent) {
    let reply = agent.read("s");
    assert_eq!(reply.status, 200, "{}\n{}", reply.text(), agent.stderr());
}

/// Runs an agent that leaves a store behind.
fn leave(setup: &Setup) {
    let agent = setup.clone().start();
    read(&agent);
    agent.stop();
}

#[test]
fn a_key_that_is_not_the_stores() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = cloud();
    let setup = persistent(&cloud, folder.path());
    leave(&setup);
    let key = folder.path().join("keys/store.key");
    fs::write(&key, [7; 32]).unwrap();
    for symptom in [
        "the store's key is another one",
        "the store's key is missing",
    ] {
        let agent = setup.clone().start();
        read(&agent);
        row(symptom).is_seen_on(&agent);
        agent.stop();
        let _ = fs::remove_file(&key);
    }
}

#[test]
fn a_store_that_is_damaged_or_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("cache/store.redb");
    let cloud = cloud();
    let setup = persistent(&cloud, folder.path());
    leave(&setup);
    let mut bytes = fs::read(&store).unwrap();
    bytes[..64].fill(0x5A);
    fs::write(&store, bytes).unwrap();
    let agent = setup.start();
    read(&agent);
    row("the store is damaged").is_seen_on(&agent);

    fs::remove_file(&store).unwrap();
    cloud.put("other", "value");
    agent.read("other");
    row("the store's file was removed at work").is_seen_on(&agent);
}

#[test]
fn a_disk_that_is_full_or_read_only() {
    if !is_inside(module_path!(), "a_disk_that_is_full_or_read_only") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = cache_disk(folder.path(), "size=4m,mode=700");
    let cloud = cloud();
    let setup = persistent(&cloud, folder.path());
    leave(&setup);

    let agent = setup.clone().start();
    read(&agent);
    // This fills the disk.
    let _ = fs::write(cache.join("ballast"), vec![1; 4 << 20]);
    for number in 0..60 {
        let name = format!("large/{number}");
        cloud.put(&name, &"x".repeat(20_000));
        assert_eq!(agent.read(&name).status, 200);
    }
    row("the store's disk is full").is_seen_on(&agent);
    agent.kill();

    fs::remove_file(cache.join("ballast")).unwrap();
    mount(&["-o", "remount,ro"], &cache);
    let agent = setup.start();
    read(&agent);
    row("the store's disk is read-only").is_seen_on(&agent);
}

#[test]
fn another_identity() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = cloud();
    let setup = persistent(&cloud, folder.path());
    leave(&setup);
    let other = cloud.issue_access_key();
    let agent = setup
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", other.id())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", other.expose_secret())
        .start();
    read(&agent);
    row("the cache is empty after a change of account or endpoint").is_seen_on(&agent);
}

#[test]
fn a_key_beside_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let agent = with_key(&cloud(), folder.path(), "cache/store.key").start();
    row("key and store share a folder").is_seen_on(&agent);
}
