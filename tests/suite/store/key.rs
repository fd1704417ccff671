//! The key of the store: missing, damaged, foreign, or open to others.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use kms_agent_test_support::{Setup, TestAgent, http};

use super::{files, post, setup, store_state};
use crate::harness::cloud::Cloud;

/// Creates a store with the secret `s` by an agent that has stopped.
fn filled(cloud: &Cloud, folder: &Path) -> Setup {
    cloud.put("s", "value");
    let setup = setup(cloud, folder);
    let agent = setup.clone().start();
    assert_eq!(agent.read("s").status, 200);
    agent.stop();
    setup
}

fn cache_check(agent: &TestAgent) -> (u16, serde_json::Value) {
    let ready = http::get(agent.port(), "/readyz", &[]);
    (
        ready.status,
        ready.json()["checks"]["cache"]["state"].clone(),
    )
}

/// Ways of spoiling the key file: the word in the message, and the change.
type Spoil = (&'static str, fn(&Path));

#[test]
fn a_store_whose_key_is_not_there_is_left_byte_for_byte_and_the_agent_lives_in_memory() {
    let spoils: [Spoil; 4] = [
        ("key_missing", |key| fs::remove_file(key).unwrap()),
        ("key_unreadable", |key| {
            fs::remove_file(key).unwrap();
            symlink(key, key).unwrap();
        }),
        ("key_invalid", |key| {
            let bytes = fs::read(key).unwrap();
            fs::write(key, bytes.split_last().unwrap().1).unwrap();
        }),
        ("key_mismatch", |key| fs::write(key, [0x5A; 32]).unwrap()),
    ];
    for (word, spoil) in spoils {
        let folder = tempfile::tempdir().unwrap();
        let cloud = Cloud::start();
        let setup = filled(&cloud, folder.path());
        let key = folder.path().join("keys/store.key");
        let kept = fs::read(&key).unwrap();
        spoil(&key);
        let before = files(&folder.path().join("cache"));

        let agent = setup.clone().start();
        for expected in ["fwd=miss", "hit"] {
            let reply = agent.read("s");
            assert_eq!(reply.status, 200);
            assert!(reply.header("cache-status").unwrap().contains(expected));
        }
        assert_eq!(store_state(&agent), word);
        assert_eq!(cache_check(&agent), (200, "degraded".into()));
        // The store cannot be reached, so the purge fails; memory is purged.
        for order in ["all=true", "secretId=s", "secretId=never-read"] {
            let reply = post(&agent, &format!("/agent/purge?{order}"));
            assert_eq!(reply.status, 503, "{order}");
            assert_eq!(reply.json()["Code"], "StoreUnavailable");
        }
        let again = agent.read("s");
        assert_eq!(
            again.header("cache-status"),
            Some("kms-agent; fwd=miss; stored")
        );
        assert_eq!(agent.read("gone").status, 404);
        let (status, said) = agent.stop();
        assert!(said.contains("may still hold the removed entry"), "{said}");
        assert_eq!(status.code(), Some(0), "{said}");
        let error = said.lines().find(|line| line.contains("ERROR")).unwrap();
        assert!(
            error.contains("lives in memory only") && error.contains(word),
            "{error}"
        );
        assert!(
            files(&folder.path().join("cache")) == before,
            "{word}: the store changed"
        );

        // The key exists again.
        drop(cloud);
        fs::remove_file(&key).unwrap_or_default();
        fs::write(&key, kept).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(setup.start().read("s").status, 200);
    }
}

#[test]
fn files_that_others_may_touch_end_the_start_with_the_command_that_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::start();
    let setup = filled(&cloud, folder.path());
    for name in ["keys/store.key", "cache/store.redb"] {
        let path = folder.path().join(name);
        let assert_refused = |mode| {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let (status, said) = setup.clone().run();
            assert_eq!(status.code(), Some(78), "{said}");
            let mends = format!("chmod 600 {}", path.display());
            assert!(said.contains(&mends), "{said}");
        };
        assert_refused(0o644);
        if chown(&path, None, Some(54_321)).is_ok() {
            assert_refused(0o640);
        } else {
            eprintln!("skipped: only root may give a file to a group it is no member of");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(setup.start().read("s").status, 200);
}

#[test]
fn a_key_that_the_service_manager_hands_out_is_used_and_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = tempfile::tempdir().unwrap();
    let key = credentials.path().join("store-key");
    fs::write(&key, [0x77; 32]).unwrap();
    // As systemd sets it for a unit with its own user.
    fs::set_permissions(&key, Permissions::from_mode(0o444)).unwrap();
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let cache = folder.path().join("store.redb");
    let unconfigured = cloud.setup().and_config(&format!(
        "[Cache]\nCacheType = \"Persistent\"\n[Cache.Persistent]\nPath = \"{}\"\nKeyFile = \"credential:store-key\"\n",
        cache.display()
    ));
    let setup = unconfigured.clone().env(
        "CREDENTIALS_DIRECTORY",
        credentials.path().to_str().unwrap(),
    );
    let agent = setup.clone().start();
    assert_eq!(agent.read("s").status, 200);
    assert_eq!(post(&agent, "/agent/purge?all=true").status, 200);
    assert_eq!(agent.read("s").status, 200);
    let said = agent.kill();
    assert!(said.contains("its key is a credential"), "{said}");
    assert_eq!(fs::read(&key).unwrap(), [0x77; 32]);

    let agent = setup.clone().start();
    assert_eq!(store_state(&agent), "ok");
    agent.stop();
    let before = fs::read(&cache).unwrap();
    let agent = unconfigured.start();
    assert_eq!(store_state(&agent), "key_missing");
    let (_, said) = agent.stop();
    assert!(said.contains("LoadCredential=store-key:"), "{said}");
    assert!(fs::read(&cache).unwrap() == before, "the store changed");
}
