//! Damaged stores: readers are served while KMS answers, and only the damaged entries are lost.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use kms_agent_test_support::{Dice, TestAgent};

use super::{make_durable, names, setup, store_state};
use crate::harness::cloud::Cloud;

const SECRETS: usize = 20;

fn read_all(agent: &TestAgent) -> Vec<String> {
    (0..SECRETS)
        .map(|n| {
            let reply = agent.read(&format!("app/{n}"));
            assert_eq!(reply.status, 200, "{}\n{}", reply.text(), agent.stderr());
            assert_eq!(reply.json()["SecretData"], format!("value {n}"));
            reply.header("cache-status").unwrap().to_owned()
        })
        .collect()
}

fn cloud() -> Cloud {
    let cloud = Cloud::start();
    for n in 0..SECRETS {
        cloud.put(&format!("app/{n}"), &format!("value {n}"));
    }
    cloud
}

fn garbage(path: &Path, from: usize) {
    let length = usize::try_from(fs::metadata(path).unwrap().len()).unwrap();
    let bytes = Dice::from_env().bytes(length - from);
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&bytes, from as u64).unwrap();
}

fn cut(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

fn zeros(path: &Path) {
    let length = usize::try_from(fs::metadata(path).unwrap().len()).unwrap();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&vec![0; length - 4096], 4096).unwrap();
}

/// Damages a store between two processes and checks the next ones.
fn assert_set_aside(ends: fn(TestAgent), damage: fn(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("cache/store.redb");
    let cloud = cloud();
    let setup = setup(&cloud, folder.path());
    let agent = setup.clone().start();
    read_all(&agent);
    make_durable(&cloud, &agent);
    ends(agent);
    damage(&store);
    let damaged = fs::read(&store).unwrap();

    let agent = setup.clone().start();
    read_all(&agent);
    assert_eq!(store_state(&agent), "ok");
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(
        said.contains("WARN") && said.contains("quarantined"),
        "{said}"
    );
    assert!(!said.contains("panicked at"), "{said}");
    let [begun, aside] = names(&folder.path().join("cache")).try_into().unwrap();
    assert_eq!(begun, "store.redb");
    assert!(aside.starts_with("store.redb.corrupt-2"), "{aside}");
    assert!(
        fs::read(folder.path().join("cache").join(aside)).unwrap() == damaged,
        "the quarantined file changed"
    );

    // From here on KMS does not exist.
    drop(cloud);
    let agent = setup.start();
    for status in read_all(&agent) {
        assert!(status.starts_with("kms-agent; hit; ttl="), "{status}");
    }
}

#[test]
fn a_store_that_was_damaged_between_two_processes_is_quarantined_and_created_again() {
    let stopped: fn(TestAgent) = |agent| drop(agent.stop());
    let killed: fn(TestAgent) = |agent| drop(agent.kill());
    assert_set_aside(stopped, |path| garbage(path, 0));
    assert_set_aside(killed, |path| garbage(path, 4096));
    assert_set_aside(stopped, cut);
    assert_set_aside(killed, zeros);
}

#[test]
fn a_store_that_was_emptied_is_created_again_and_that_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = cloud();
    let setup = setup(&cloud, folder.path());
    setup.clone().start().stop();
    fs::write(folder.path().join("cache/store.redb"), b"").unwrap();
    let agent = setup.start();
    assert_eq!(store_state(&agent), "ok");
    let (_, said) = agent.stop();
    assert!(said.contains("is an empty file"), "{said}");
}

#[test]
fn a_store_that_is_damaged_under_the_running_agent_costs_no_reader_anything() {
    for damage in [zeros, cut, (|path| garbage(path, 0)) as fn(&Path)] {
        let folder = tempfile::tempdir().unwrap();
        let cloud = cloud();
        let setup = setup(&cloud, folder.path());
        setup.clone().start().stop();
        let agent = setup.clone().start();
        read_all(&agent);
        damage(&folder.path().join("cache/store.redb"));
        read_all(&agent);
        make_durable(&cloud, &agent);
        read_all(&agent);
        let (status, said) = agent.stop();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(!said.contains("panicked at"), "{said}");

        let agent = setup.start();
        read_all(&agent);
        assert_eq!(store_state(&agent), "ok", "{}", agent.stderr());
    }
}
