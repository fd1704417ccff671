//! The backend chosen by config alone: the same agent, and a cache that outlives it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kms_agent_test_support::{Setup, http};

use crate::cloud::Cloud;

fn setup(cloud: &Cloud, folder: &Path) -> Setup {
    let folder = folder.display();
    cloud.setup().and_config(&format!(
        "ConnectTimeoutMs = 500\nMaxAttempts = 1\n[Cache]\nCacheType = \"Persistent\"\n\
         [Cache.Persistent]\nPath = \"{folder}/cache/store.redb\"\nKeyFile = \"{folder}/keys/store.key\"\n"
    ))
}

/// Every file below `folder`.
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

    // From here on there is no KMS.
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
    let output = std::process::Command::new(crate::cloud::BINARY)
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
