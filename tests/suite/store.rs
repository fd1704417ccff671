//! The persistent cache: entries that survive restarts, kills, damage and full disks.

mod clock;
mod damage;
mod key;
mod kill;
mod ledger;
mod many;
mod medium;
mod policy;
mod purge;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use kms_agent_test_support::{Setup, TOKEN, TestAgent, http};

use crate::harness::cloud::Cloud;

/// Limit for things that happen soon unless something hangs.
const LIMIT: Duration = Duration::from_mins(1);

fn setup(cloud: &Cloud, folder: &Path) -> Setup {
    setup_for(cloud, folder, 1000)
}

fn setup_for(cloud: &Cloud, folder: &Path, entries: usize) -> Setup {
    setup_with(
        cloud,
        folder,
        &format!("TtlSeconds = 86400\nCacheSize = {entries}"),
    )
}

fn setup_with(cloud: &Cloud, folder: &Path, cache: &str) -> Setup {
    let folder = folder.display();
    cloud.setup().and_config(&format!(
        "ConnectTimeoutMs = 500\nMaxAttempts = 1\nMaxRequestsPerSecond = 0\n[Cache]\n{cache}\nCacheType = \"Persistent\"\n\
         [Cache.Persistent]\nPath = \"{folder}/cache/store.redb\"\nKeyFile = \"{folder}/keys/store.key\"\n"
    ))
}

/// Waits until `condition` is true.
fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LIMIT, "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the names in `folder`, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn post(agent: &TestAgent, target: &str) -> http::Reply {
    let port = agent.port();
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: localhost:{port}\r\nX-KMS-Token: {TOKEN}\r\nConnection: close\r\n\r\n"
    );
    http::send(port, request.as_bytes()).unwrap()
}

/// Makes the agent commit its entries: a purge is durable when it is answered, and so are earlier entries.
fn make_durable(cloud: &Cloud, agent: &TestAgent) {
    cloud.put("marker", "value");
    assert_eq!(agent.read("marker").status, 200);
    let reply = post(agent, "/agent/purge?secretId=marker");
    assert_eq!((reply.status, reply.text()), (200, r#"{"purged":1}"#));
}

/// Returns the state of the store in `/agent/status`.
fn store_state(agent: &TestAgent) -> String {
    let status = agent.get("/agent/status").json();
    status["cache"]["store"]["state"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Returns path, bytes and mode of every file under `folder`.
fn files(folder: &Path) -> Vec<(String, Vec<u8>, u32)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            found.push((
                entry.path().display().to_string(),
                std::fs::read(entry.path()).unwrap(),
                mode,
            ));
        }
    }
    found
}

#[test]
fn entries_survive_a_restart_and_are_answered_without_network() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::start();
    cloud.put("app/db", "canary-5d41402a");
    let first = setup(&cloud, folder.path()).start();
    assert_eq!(
        first.read("app/db").header("cache-status"),
        Some("kms-agent; fwd=miss; stored")
    );
    let (status, log) = first.stop();
    assert_eq!(status.code(), Some(0), "{log}");

    for (path, bytes, mode) in files(folder.path()) {
        assert_eq!(mode, 0o600, "{path}");
        for clear in ["canary-5d41402a", "app/db", "ACSCurrent"] {
            assert!(
                !bytes
                    .windows(clear.len())
                    .any(|window| window == clear.as_bytes()),
                "{clear} in {path}"
            );
        }
    }

    // From here on KMS does not exist.
    let again = setup(&cloud, folder.path());
    drop(cloud);
    let second = again.start();
    let reply = second.read("app/db");
    assert_eq!(reply.status, 200, "{}\n{}", reply.text(), second.stderr());
    assert_eq!(reply.json()["SecretData"], "canary-5d41402a");
    assert!(
        reply
            .header("cache-status")
            .unwrap()
            .starts_with("kms-agent; hit; ttl=")
    );
    assert_eq!(http::get(second.port(), "/readyz", &[]).status, 200);
}

#[test]
fn a_second_agent_on_the_same_store_ends_with_78_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::start();
    let _first = setup(&cloud, folder.path()).start();
    let config = folder.path().join("config.toml");
    let paths = folder.path().display();
    std::fs::write(
        &config,
        format!("[Server]\nHttpPort = 0\n[KMS]\nRegion = \"cn-hangzhou\"\n[Log]\nLogPath = \"\"\n[Cache]\nCacheType = \"Persistent\"\n[Cache.Persistent]\nPath = \"{paths}/cache/store.redb\"\nKeyFile = \"{paths}/keys/store.key\"\n"),
    )
    .unwrap();
    let output = std::process::Command::new(crate::harness::cloud::BINARY)
        .args(["agent", config.to_str().unwrap()])
        .env_clear()
        .env("KMS_TOKEN", kms_agent_test_support::TOKEN)
        .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    assert!(stderr.contains("store.redb"), "{stderr}");
}

#[test]
fn an_agent_that_cannot_learn_who_it_is_answers_as_who_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::start();
    cloud.put("s", "value");
    cloud.set_metadata(kms_agent_emulator::MetadataSettings {
        role: Some("app-role".to_owned()),
        ..kms_agent_emulator::MetadataSettings::default()
    });
    let url = cloud.base_url();
    let paths = folder.path().display();
    let setup = Setup::new(crate::harness::cloud::BINARY)
        .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "false")
        .and_config(&format!(
            "[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{url}\"\n[Credentials]\nMetadataEndpoint = \"{url}\"\n\
             [Cache]\nCacheType = \"Persistent\"\n\
             [Cache.Persistent]\nPath = \"{paths}/cache/store.redb\"\nKeyFile = \"{paths}/keys/store.key\"\n"
        ));
    let first = setup.clone().start();
    assert_eq!(first.read("s").status, 200, "{}", first.stderr());
    first.stop();
    // From here on neither KMS nor the metadata service answers.
    drop(cloud);
    let second = setup.start();
    let reply = second.read("s");
    assert_eq!(reply.status, 200, "{}\n{}", reply.text(), second.stderr());
    assert!(
        reply
            .header("cache-status")
            .unwrap()
            .starts_with("kms-agent; hit; ttl=")
    );
    let ready = http::get(second.port(), "/readyz", &[]);
    assert_eq!(
        (
            ready.status,
            &ready.json()["checks"]["credentials"]["state"]
        ),
        (200, &"degraded".into())
    );
}

#[test]
fn entries_of_another_identity_are_answered_to_nobody_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let first = setup(&cloud, folder.path()).start();
    first.read("s");
    first.stop();
    let other = cloud.issue_access_key();
    let second = setup(&cloud, folder.path())
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", other.id())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", other.expose_secret())
        .start();
    assert_eq!(
        second.read("s").header("cache-status"),
        Some("kms-agent; fwd=miss; stored")
    );
    until("the old entry has gone", || {
        second.get("/agent/status").json()["cache"]["entries"] == 1
    });
    until("it is logged", || {
        second.stderr().contains("another endpoint or identity")
    });
}
