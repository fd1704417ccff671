//! Credential providers: selection, renewal, failure and recovery.

mod change;
mod choice;
mod failure;
mod hidden;
mod judge;
mod profile;
mod recovery;
mod region;
mod renewal;
mod tunnel;

use std::path::Path;
use std::time::{Duration, Instant};

use kms_agent_emulator::MetadataSettings;
use kms_agent_test_support::{Setup, TestAgent};

use crate::harness::cloud::{BINARY, Cloud};

/// Sets up an agent without an access key that finds all services at `cloud`.
fn without_key(cloud: &Cloud) -> Setup {
    let url = cloud.base_url();
    let setup = Setup::new(BINARY).env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "false");
    setup.and_config(&format!(
        "[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{url}\"\n[Credentials]\nStsEndpoint = \"{url}\"\nMetadataEndpoint = \"{url}\"\n"
    ))
}

/// Sets up the same agent with a home that holds `files`.
fn at_home(cloud: &Cloud, home: &Path, files: &[(&str, &str)]) -> Setup {
    for (path, text) in files {
        put(home, path, text);
    }
    without_key(cloud).env("HOME", home.to_str().unwrap())
}

/// Replaces a file atomically, as editors and tools do.
fn put(home: &Path, path: &str, text: &str) {
    let path = home.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// Starts a cloud with the secret `s`, whose instance has `role`.
fn cloud(role: Option<&str>) -> Cloud {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    attach(&cloud, role);
    cloud
}

fn attach(cloud: &Cloud, role: Option<&str>) {
    cloud.set_metadata(MetadataSettings {
        role: role.map(str::to_owned),
        ..MetadataSettings::default()
    });
}

/// Returns the ARN of the role `name` in the cloud's account.
fn role_arn(cloud: &Cloud, name: &str) -> String {
    format!("acs:ram::{}:role/{name}", cloud.account_id())
}

fn assert_reads(agent: &TestAgent) {
    let reply = agent.read("s");
    assert_eq!(reply.status, 200, "{}\n{}", reply.text(), agent.stderr());
    assert_eq!(reply.json()["SecretData"], "value");
}

/// Returns the provider that `/agent/status` names.
fn provider(agent: &TestAgent) -> String {
    let status = agent.get("/agent/status").json();
    status["credentials"]["provider"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Waits until `holds` is true.
fn wait_until(agent: &TestAgent, what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "still waiting: {what}\n{}",
            agent.stderr()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
