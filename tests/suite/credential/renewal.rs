//! Renewal of credentials that last two or three seconds, unnoticed by readers.

use std::time::{Duration, Instant};

use kms_agent_emulator::Action;

use super::choice::by_rrsa;
use super::profile::{access_key, cli_file};
use super::{assert_reads, at_home, cloud, role_arn, without_key};
use crate::harness::cloud::Cloud;

/// Reads past the cache for seven seconds, so that each read needs valid credentials.
fn read_steadily(cloud: &Cloud, setup: kms_agent_test_support::Setup) {
    let agent = setup.start();
    let began = Instant::now();
    let mut reads = 0;
    while began.elapsed() < Duration::from_secs(7) {
        let reply = agent.read("s&refreshNow=true");
        assert_eq!(reply.status, 200, "{}\n{}", reply.text(), agent.stderr());
        reads += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut keys: Vec<_> = cloud
        .calls()
        .into_iter()
        .filter(|call| call.action == Action::GetSecretValue)
        .filter_map(|call| call.access_key_id)
        .collect();
    keys.dedup();
    assert!(keys.len() >= 3, "{reads} reads with {} keys", keys.len());
}

#[test]
fn the_role_of_the_instance_changes_its_key_every_two_seconds() {
    let cloud = cloud(Some("app-role"));
    cloud.set_session_lifetime(Some(Duration::from_secs(2)));
    read_steadily(&cloud, without_key(&cloud));
}

#[test]
fn a_service_changes_its_key_when_it_has_ended_and_not_before() {
    let cloud = cloud(None);
    cloud.set_session_lifetime(Some(Duration::from_secs(2)));
    let uri = format!("{}/credentials", cloud.base_url());
    let setup = without_key(&cloud).env("ALIBABA_CLOUD_CREDENTIALS_URI", uri);
    read_steadily(&cloud, setup);
}

#[test]
fn a_token_is_exchanged_every_three_seconds() {
    let cloud = cloud(None);
    cloud.set_session_lifetime(Some(Duration::from_secs(3)));
    let folder = tempfile::tempdir().unwrap();
    read_steadily(&cloud, by_rrsa(&cloud, folder.path(), "any-token"));
}

#[test]
fn a_role_of_a_profile_is_assumed_every_two_seconds() {
    let cloud = cloud(None);
    cloud.set_session_lifetime(Some(Duration::from_secs(2)));
    let folder = tempfile::tempdir().unwrap();
    let (key, role) = (access_key(&cloud), role_arn(&cloud, "app"));
    let file = cli_file(&format!(
        r#""mode":"RamRoleArn",{key},"ram_role_arn":"{role}""#
    ));
    let setup = at_home(&cloud, folder.path(), &[(".aliyun/config.json", &file)]);
    read_steadily(&cloud, setup);
}

#[test]
fn many_cold_readers_are_one_call_to_the_provider() {
    let cloud = cloud(Some("app-role"));
    let late = kms_agent_emulator::Fault::latency(Duration::from_millis(200));
    cloud.fault(late.on(Action::Metadata)).unwrap();
    let agent = without_key(&cloud).start();
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| assert_reads(&agent));
        }
    });
    // One call each for token, role name and credentials.
    assert_eq!(cloud.count_calls(Action::Metadata), 3);
    assert_eq!(cloud.reads(), 1);
}
