//! Config keys that environment variables set.

use std::process::{Command, Output};

use kms_agent_test_support::{Setup, TOKEN};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::cloud::{BINARY, Cloud};
use crate::operate::log::until;

fn check(config: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, config).unwrap();
    Command::new(BINARY)
        .args(["check", "--offline"])
        .args(arguments)
        .arg(&file)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn a_variable_overrides_the_file_at_the_start_and_at_each_reload() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let setup = cloud
        .setup()
        .and_config("[Cache]\nTtlSeconds = 50\nCacheSize = 10\n")
        .env("KMS_AGENT_CACHE_TTL_SECONDS", "7000")
        .env("KMS_AGENT_SERVER_RESPONSE_TYPE", "1")
        .env("KMS_AGENT_CACHE_TTL_SECOND", "5")
        .env("KMS_AGENT_PORT", "tcp://10.0.0.1:2025")
        .env("KMS_AGENT_SERVER_HTTP_PORT", "tcp://10.0.0.1:80");
    let agent = setup.start();
    assert_eq!(agent.read("s").json()["SecretString"], "value");
    let ttl = || agent.get("/agent/status").json()["entries"][0]["ttl_seconds"].as_f64();
    assert!(ttl().unwrap() > 6000.0);

    let config = agent.folder().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("= 50", "= 60").replace("= 10", "= 20"),
    )
    .unwrap();
    agent.signal(Signal::HUP);
    until("it is reloaded", || {
        agent.stderr().contains("These changes need a restart")
    });
    assert!(ttl().unwrap() > 6000.0);
    let (_, said) = agent.stop();
    assert!(said.contains("keys=\"Cache.CacheSize\""), "{said}");
    assert!(said.contains("changed=\"\""), "{said}");
    let warnings: Vec<_> = said
        .lines()
        .filter(|line| line.contains("sets no key"))
        .collect();
    assert_eq!(warnings.len(), 1, "{said}");
    assert!(warnings[0].contains("did you mean KMS_AGENT_CACHE_TTL_SECONDS?"));
}

#[test]
fn the_config_of_a_backend_is_set_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let cloud = Cloud::start();
    let agent = cloud
        .setup()
        .env("KMS_AGENT_CACHE_CACHE_TYPE", "Persistent")
        .env("KMS_AGENT_CACHE_PERSISTENT_PATH", path("cache/store"))
        .env("KMS_AGENT_CACHE_PERSISTENT_KEY_FILE", path("keys/key"))
        .start();
    let store = &agent.get("/agent/status").json()["cache"]["store"];
    assert_eq!(store["path"], path("cache/store"));
    agent.stop();
}

#[test]
fn the_status_has_the_path_of_the_store_in_full() {
    let cloud = Cloud::start();
    let agent = cloud
        .setup()
        .and_config("[Cache]\nCacheType = \"Persistent\"\n")
        .start();
    let folder = std::fs::canonicalize(agent.folder()).unwrap();
    let store = &agent.get("/agent/status").json()["cache"]["store"];
    assert_eq!(
        store["path"].as_str().unwrap(),
        folder.join("cache/kms-agent.redb").to_str().unwrap()
    );
}

#[test]
fn a_bad_variable_is_bad_configuration() {
    let (status, said) = Setup::new(BINARY)
        .env("KMS_AGENT_CACHE_TTL_SECONDS", "hunter2")
        .run();
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(
        said.contains(
            "KMS_AGENT_CACHE_TTL_SECONDS: Cache.TtlSeconds: must be a whole number from 0 to 86400"
        ),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn check_names_the_variable_in_text_and_json() {
    let config = "[Cache]\nTtlSeconds = -1\n[Log]\nMaxAge = 5\n";
    let good = [
        ("KMS_AGENT_CACHE_TTL_SECONDS", "60"),
        ("KMS_AGENT_LOG_LEVEL", "Info"),
    ];
    let output = check(config, &[], &good);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("config.toml:4: Log.MaxAge: is a key of the official agent"),
        "{said}"
    );
    assert!(
        said.contains("did you mean KMS_AGENT_LOG_LOG_LEVEL?"),
        "{said}"
    );
    assert!(
        said.lines()
            .skip(1)
            .all(|line| line.starts_with("warning  config ")),
        "{said}"
    );

    let json = |variables: &[(&str, &str)]| -> Value {
        serde_json::from_slice(&check(config, &["--json"], variables).stdout).unwrap()
    };
    let report = json(&good);
    assert_eq!(report["ok"], true);
    assert_eq!(report["warnings"].as_array().unwrap().len(), 2);
    let report = json(&[("KMS_AGENT_CACHE_TTL_SECONDS", "")]);
    assert_eq!(report["ok"], false);
    let problem = &report["problems"][0];
    assert_eq!(problem["variable"], "KMS_AGENT_CACHE_TTL_SECONDS");
    assert_eq!(problem["key"], "Cache.TtlSeconds");
    assert_eq!(problem["line"], 0);
    // Without the variable the file applies.
    assert_eq!(json(&[])["problems"][0]["line"], 2);
    assert_eq!(json(&[])["problems"][0]["variable"], Value::Null);
}

#[test]
fn the_client_commands_find_the_port_as_the_agent_does() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud.setup().start();
    let file = agent.folder().join("config.toml");
    let with_file = ["--config", file.to_str().unwrap()];
    for more in [&[][..], &with_file[..]] {
        let output = Command::new(BINARY)
            .args(["get", "s"])
            .args(more)
            .env_clear()
            .env("KMS_TOKEN", TOKEN)
            .env("KMS_AGENT_SERVER_HTTP_PORT", agent.port().to_string())
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"value", "{output:?}");
    }
}
