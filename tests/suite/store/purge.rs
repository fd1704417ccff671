//! Contents of the store's files, in general and after a purge of everything.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use kms_agent_emulator::PutSecret;
use kms_agent_test_support::{Dice, Setup, http};

use super::{files, make_durable, post, setup, store_state};
use crate::harness::cloud::Cloud;

#[test]
fn a_purge_of_everything_puts_a_new_store_and_a_new_key_in_place_of_the_old() {
    let folder = tempfile::tempdir().unwrap();
    let (store, key) = (
        folder.path().join("cache/store.redb"),
        folder.path().join("keys/store.key"),
    );
    let cloud = Cloud::start();
    cloud.put("s", "value");
    cloud.put("later", "value");
    let setup = setup(&cloud, folder.path());
    let agent = setup.clone().start();
    assert_eq!(agent.read("s").status, 200);
    agent.stop();
    let old = (fs::read(&store).unwrap(), fs::read(&key).unwrap());

    let agent = setup.clone().start();
    assert_eq!(agent.read("s").status, 200);
    let purged = post(&agent, "/agent/purge?all=true");
    assert_eq!((purged.status, purged.text()), (200, r#"{"purged":1}"#));
    // At once, not only at shutdown.
    assert!(fs::read(&key).unwrap() != old.1, "the key stayed");
    assert!(fs::read(&store).unwrap() != old.0, "the store stayed");
    assert_eq!(agent.read("later").status, 200);
    agent.stop();

    drop(cloud);
    let agent = setup.clone().start();
    assert_eq!(agent.read("s").status, 503);
    assert_eq!(agent.read("later").status, 200);
    agent.stop();
    // A copy of the old store cannot be read with the new key.
    fs::write(&store, &old.0).unwrap();
    let agent = setup.start();
    assert_eq!(store_state(&agent), "key_mismatch");
    assert_eq!(agent.read("s").status, 503);
}

#[test]
fn a_key_behind_a_link_is_replaced_where_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let volume = tempfile::tempdir().unwrap();
    let key = folder.path().join("keys/store.key");
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let setup = setup(&cloud, folder.path());
    setup.clone().start().stop();
    let target = volume.path().join("key");
    fs::copy(&key, &target).unwrap();
    fs::remove_file(&key).unwrap();
    symlink(&target, &key).unwrap();
    let old = fs::read(&target).unwrap();

    let agent = setup.clone().start();
    assert_eq!(post(&agent, "/agent/purge?all=true").status, 200);
    assert_eq!(agent.read("s").status, 200);
    agent.stop();
    assert!(fs::symlink_metadata(&key).unwrap().is_symlink());
    assert!(fs::read(&target).unwrap() != old, "the key stayed");
    drop(cloud);
    assert_eq!(setup.start().read("s").status, 200);
}

/// Checks that no file under `folder` contains one of `canaries`.
fn assert_sealed(folder: &Path, canaries: &[String], when: &str) {
    let files = files(folder);
    assert!(!files.is_empty());
    for (path, bytes, _) in files {
        for canary in canaries {
            let found = bytes
                .windows(canary.len())
                .any(|part| part == canary.as_bytes());
            assert!(!found, "{canary} is in {path} {when}");
        }
    }
}

#[test]
fn names_versions_stages_and_values_are_in_no_file_at_any_time() {
    let mut dice = Dice::from_env();
    let mut word = || format!("{:016x}", dice.number());
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::start();
    let setup: Setup = setup(&cloud, folder.path());
    let mut agent = setup.clone().start();
    let mut canaries = Vec::new();
    for round in ["running", "killed", "stopped", "purged"] {
        for _ in 0..4 {
            let [name, value, version, stage] = [(); 4].map(|()| word());
            let secret = PutSecret::new(&name, &value)
                .version_id(&version)
                .stages(["ACSCurrent", &stage]);
            cloud.put_secret(secret).unwrap();
            for query in [
                "",
                &format!("&versionId={version}"),
                &format!("&versionStage={stage}"),
            ] {
                assert_eq!(agent.read(&format!("{name}{query}")).status, 200);
            }
            canaries.extend([name, value, version, stage]);
        }
        make_durable(&cloud, &agent);
        assert_sealed(folder.path(), &canaries, "while it runs");
        match round {
            "killed" => drop(agent.kill()),
            "purged" => {
                assert_eq!(post(&agent, "/agent/purge?all=true").status, 200);
                agent.stop();
            }
            _ => drop(agent.stop()),
        }
        assert_sealed(folder.path(), &canaries, round);
        agent = setup.clone().start();
    }
    assert_eq!(http::get(agent.port(), "/ping", &[]).status, 200);
}
