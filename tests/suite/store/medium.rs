//! A file system that is full, read-only or emptied under the store.

use std::fs;
use std::path::{Path, PathBuf};

use kms_agent_test_support::{Setup, TestAgent, http};

use super::{make_durable, names, post, setup, setup_for, store_state, until};
use crate::harness::cloud::Cloud;
use crate::harness::namespace::{cache_disk, is_inside, mount};

fn agent(cloud: &Cloud, folder: &Path) -> (Setup, TestAgent) {
    let setup = setup(cloud, folder);
    (setup.clone(), setup.start())
}

fn metric(agent: &TestAgent, name: &str) -> f64 {
    let metrics = http::get(agent.port(), "/metrics", &[]);
    let sum = metrics
        .text()
        .lines()
        .filter(|line| line.starts_with(name))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    sum.sum()
}

fn cache_check(agent: &TestAgent) -> (u16, String) {
    let ready = http::get(agent.port(), "/readyz", &[]);
    let state = ready.json()["checks"]["cache"]["state"]
        .as_str()
        .unwrap()
        .to_owned();
    (ready.status, state)
}

/// Reads `count` large secrets, each twice.
fn read_all(cloud: &Cloud, agent: &TestAgent, names: impl Iterator<Item = usize>) {
    for n in names {
        let value = format!("{n}-{}", "x".repeat(20_000));
        cloud.put(&format!("app/{n}"), &value);
        for expected in ["miss", "hit"] {
            let reply = agent.read(&format!("app/{n}"));
            assert_eq!(reply.json()["SecretData"], value);
            assert!(reply.header("cache-status").unwrap().contains(expected));
        }
    }
}

#[test]
fn a_full_disk_costs_no_reader_anything_and_heals() {
    if !is_inside(
        module_path!(),
        "a_full_disk_costs_no_reader_anything_and_heals",
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = cache_disk(folder.path(), "size=4m,mode=700");
    let cloud = Cloud::start();
    let (setup, agent) = agent(&cloud, folder.path());
    read_all(&cloud, &agent, 0..1);
    make_durable(&cloud, &agent);
    assert_eq!(cache_check(&agent), (200, "ok".to_owned()));
    // This fills the disk.
    let _ = fs::write(cache.join("ballast"), vec![1; 4 << 20]);
    read_all(&cloud, &agent, 1..60);
    until("the disk is full", || store_state(&agent) == "disk_full");
    assert_eq!(cache_check(&agent), (200, "degraded".to_owned()));
    // No reader waited for the first failed write.
    let background = r#"kms_agent_store_errors_total{kind="background"}"#;
    assert!(metric(&agent, background) > 0.0);
    assert_eq!(agent.stderr().matches("store failed").count(), 1);

    fs::remove_file(cache.join("ballast")).unwrap();
    until("it works again", || store_state(&agent) == "ok");
    assert_eq!(cache_check(&agent), (200, "ok".to_owned()));
    until("it is said", || {
        agent.stderr().contains("store works again")
    });
    agent.kill();
    drop(cloud);
    let agent = setup.start();
    for n in 0..60 {
        assert_eq!(agent.read(&format!("app/{n}")).status, 200, "{n}");
    }
    assert_eq!(names(&cache), ["store.redb"]);
}

/// Fills the disk with a store of 40 entries. Returns the agent's setup and the folder.
fn full(cloud: &Cloud, folder: &Path) -> (Setup, PathBuf) {
    let cache = cache_disk(folder, "size=4m,mode=700");
    let (setup, agent) = agent(cloud, folder);
    read_all(cloud, &agent, 0..40);
    agent.stop();
    let _ = fs::write(cache.join("ballast"), vec![1; 4 << 20]);
    (setup, cache)
}

#[test]
fn what_is_removed_while_the_disk_is_full_does_not_come_back() {
    if !is_inside(
        module_path!(),
        "what_is_removed_while_the_disk_is_full_does_not_come_back",
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::start();
    let (setup, cache) = full(&cloud, folder.path());
    let agent = setup.clone().start();
    read_all(&cloud, &agent, 40..70);
    until("the disk is full", || store_state(&agent) == "disk_full");
    cloud.delete_secret("app/3");
    assert_eq!(agent.read("app/3&refreshNow=true").status, 404);
    // The rewritten store may find the disk full again, and then logs it.
    until("the purge is done", || {
        post(&agent, "/agent/purge?secretId=app/4").status == 200
    });
    // No other entry is lost.
    for n in (0..70).filter(|n| *n != 3) {
        assert_eq!(agent.read(&format!("app/{n}")).status, 200, "{n}");
    }
    until("everything is purged", || {
        post(&agent, "/agent/purge?all=true").status == 200
    });
    assert_eq!(agent.read("app/5").status, 200);
    agent.kill();
    drop(cloud);
    let agent = setup.clone().start();
    for gone in [3, 4, 6, 39] {
        assert_eq!(agent.read(&format!("app/{gone}")).status, 503, "{gone}");
    }
    agent.stop();
    assert_eq!(names(&cache), ["ballast", "store.redb"]);
}

#[test]
fn an_end_on_a_full_disk_is_a_good_one_when_no_more_than_evictions_wait() {
    if !is_inside(
        module_path!(),
        "an_end_on_a_full_disk_is_a_good_one_when_no_more_than_evictions_wait",
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::start();
    let (_, _) = full(&cloud, folder.path());
    let agent = setup_for(&cloud, folder.path(), 2).start();
    read_all(&cloud, &agent, 40..45);
    until("the disk is full", || store_state(&agent) == "disk_full");
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
}

#[test]
fn an_end_with_a_purge_undone_says_where_it_is_and_what_to_do() {
    if !is_inside(
        module_path!(),
        "an_end_with_a_purge_undone_says_where_it_is_and_what_to_do",
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = cache_disk(folder.path(), "mode=700");
    let cloud = Cloud::start();
    let (setup, agent) = agent(&cloud, folder.path());
    read_all(&cloud, &agent, 0..2);
    agent.stop();
    mount(&["-o", "remount,ro"], &cache);
    let agent = setup.start();
    assert_eq!(agent.read("app/0").status, 200);
    until("it is known what there is", || {
        agent.get("/agent/status").json()["entries"]
            .as_array()
            .unwrap()
            .len()
            == 2
    });
    assert_eq!(post(&agent, "/agent/purge?secretId=app/0").status, 503);
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.contains("store.redb could not be written (read_only)")
            && last.contains("remove that file before the next start"),
        "{last}"
    );
}

#[test]
fn a_read_only_disk_at_the_start_costs_no_reader_anything_and_heals() {
    if !is_inside(
        module_path!(),
        "a_read_only_disk_at_the_start_costs_no_reader_anything_and_heals",
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = cache_disk(folder.path(), "mode=700");
    let cloud = Cloud::start();
    let (setup, first) = agent(&cloud, folder.path());
    read_all(&cloud, &first, 0..5);
    first.stop();
    mount(&["-o", "remount,ro"], &cache);
    let agent = setup.clone().start();
    assert_eq!(store_state(&agent), "read_only");
    assert_eq!(cache_check(&agent), (200, "degraded".to_owned()));
    // The store can still be read.
    for n in 0..4 {
        let reply = agent.read(&format!("app/{n}"));
        assert!(
            reply.header("cache-status").unwrap().contains("; hit; "),
            "{n}"
        );
    }
    let bytes = fs::metadata(cache.join("store.redb")).unwrap().len();
    assert_eq!(
        agent.get("/agent/status").json()["cache"]["store"]["bytes"],
        bytes
    );
    read_all(&cloud, &agent, 5..10);
    mount(&["-o", "remount,rw"], &cache);
    until("it works again", || store_state(&agent) == "ok");
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(said.matches("store failed").count(), 1, "{said}");
    drop(cloud);
    let agent = setup.start();
    for n in 0..10 {
        assert_eq!(agent.read(&format!("app/{n}")).status, 200, "{n}");
    }
}

#[test]
fn a_store_that_is_deleted_under_the_agent_is_created_again() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::start();
    let (setup, agent) = agent(&cloud, folder.path());
    read_all(&cloud, &agent, 0..5);
    make_durable(&cloud, &agent);
    let path = folder.path().join("cache/store.redb");
    fs::remove_file(&path).unwrap();
    read_all(&cloud, &agent, 5..8);
    until("it is there again and works", || {
        path.exists() && store_state(&agent) == "ok"
    });
    make_durable(&cloud, &agent);
    let said = agent.kill();
    assert!(said.contains("removed or replaced"), "{said}");
    drop(cloud);
    let agent = setup.start();
    for n in 0..8 {
        assert_eq!(agent.read(&format!("app/{n}")).status, 200, "{n}");
    }
}

/// A confined process cannot reach a recreated folder until a restart, so it caches in memory.
#[test]
fn a_store_whose_folder_is_deleted_under_the_agent_costs_no_reader_anything() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::start();
    let (setup, agent) = agent(&cloud, folder.path());
    read_all(&cloud, &agent, 0..5);
    make_durable(&cloud, &agent);
    fs::remove_dir_all(folder.path().join("cache")).unwrap();
    read_all(&cloud, &agent, 5..8);
    for n in 0..8 {
        assert_eq!(agent.read(&format!("app/{n}")).status, 200, "{n}");
    }
    // Until the agent has noticed that the file is gone, it cannot promise a durable removal: 503, to be retried.
    until("a purge is taken", || {
        let reply = post(&agent, "/agent/purge?secretId=app/0");
        assert!([200, 503].contains(&reply.status), "{}", reply.text());
        reply.status == 200
    });
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    if said.contains("permission_denied") {
        assert!(said.contains("restart the agent"), "{said}");
    }
    let agent = setup.start();
    read_all(&cloud, &agent, 0..8);
}
