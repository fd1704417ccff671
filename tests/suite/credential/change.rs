//! A profile that changes while the agent runs.

use kms_agent_test_support::{TestAgent, http};

use super::profile::{access_key, cli_file};
use super::{assert_reads, at_home, attach, cloud, put, role_arn, wait_until};
use crate::harness::cloud::Cloud;

const FILE: &str = ".aliyun/config.json";

fn key_file(id: &str, secret: &str) -> String {
    cli_file(&format!(
        r#""mode":"AK","access_key_id":"{id}","access_key_secret":"{secret}""#
    ))
}

/// Returns the key that signed the last call for a secret.
fn last_signer(cloud: &Cloud) -> Option<String> {
    let calls = cloud.calls();
    calls
        .iter()
        .rev()
        .find(|call| call.secret.is_some())
        .and_then(|call| call.access_key_id.clone())
}

#[test]
fn a_new_key_takes_over_without_a_failed_reader_and_a_broken_file_changes_nothing() {
    let cloud = cloud(None);
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let (one, two) = (cloud.issue_access_key(), cloud.issue_access_key());
    let first = key_file(one.id(), one.expose_secret());
    let agent = at_home(&cloud, home, &[(FILE, &first)]).start();
    assert_reads(&agent);
    assert_eq!(last_signer(&cloud).as_deref(), Some(one.id()));

    put(home, FILE, "{\"current\": ");
    wait_until(&agent, "the complaint", || {
        assert_eq!(agent.read("s&refreshNow=true").status, 200);
        let said = "Credentials cannot be read again; the present ones stay in use";
        agent.stderr().contains(said)
    });
    assert_eq!(state(&agent), "degraded");
    assert_eq!(last_signer(&cloud).as_deref(), Some(one.id()));

    put(home, FILE, &key_file(two.id(), two.expose_secret()));
    wait_until(&agent, "the change of keys", || {
        let reply = agent.read("s&refreshNow=true");
        assert_eq!(reply.status, 200, "{}", reply.text());
        last_signer(&cloud).as_deref() == Some(two.id())
    });
    assert_eq!(state(&agent), "ok");
    assert!(
        agent
            .read("s")
            .header("cache-status")
            .unwrap()
            .starts_with("kms-agent; hit"),
        "the new identity has a copy of its own by now"
    );
}

#[test]
fn a_new_identity_that_fails_leaves_nobody_to_read_as() {
    let cloud = cloud(None);
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let key = access_key(&cloud);
    let agent = at_home(
        &cloud,
        home,
        &[(FILE, &cli_file(&format!(r#""mode":"AK",{key}"#)))],
    )
    .start();
    assert_reads(&agent);

    cloud.register_role(role_arn(&cloud, "another"));
    let role = role_arn(&cloud, "missing");
    let role = cli_file(&format!(
        r#""mode":"RamRoleArn",{key},"ram_role_arn":"{role}""#
    ));
    put(home, FILE, &role);
    wait_until(&agent, "the end of the old identity", || {
        agent.read("s").status == 503
    });
    assert!(
        agent.stderr().contains("EntityNotExist.Role"),
        "{}",
        agent.stderr()
    );

    // From now on the role may be assumed.
    cloud.register_role(role_arn(&cloud, "missing"));
    wait_until(&agent, "the new identity", || agent.read("s").status == 200);
}

/// Returns the state of the credentials in `/readyz`.
fn state(agent: &TestAgent) -> String {
    let ready = http::get(agent.port(), "/readyz", &[]).json();
    ready["checks"]["credentials"]["state"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn whichever_role_the_instance_has_is_another_identity_than_a_key() {
    let cloud = cloud(None);
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let key = access_key(&cloud);
    let file = cli_file(&format!(r#""mode":"AK",{key}"#));
    let agent = at_home(&cloud, home, &[(FILE, &file)]).start();
    assert_reads(&agent);

    put(home, FILE, &cli_file(r#""mode":"EcsRamRole""#));
    wait_until(&agent, "the end of the key", || {
        agent.read("s").status == 503
    });
    let said = agent.stderr();
    assert!(said.contains("no RAM role is attached"), "{said}");
    // The cached entry belongs to the key, and is not served to the role.
    assert_eq!(http::get(agent.port(), "/readyz", &[]).status, 503);
    assert_eq!(state(&agent), "failed");

    attach(&cloud, Some("app-role"));
    wait_until(&agent, "the role", || agent.read("s").status == 200);
    let status = agent.get("/agent/status").json();
    assert!(status["credentials"]["expires_at"].is_string(), "{status}");
    // From now on the instance is the identity: its credentials last while the service fails.
    attach(&cloud, None);
    put(
        home,
        FILE,
        &cli_file(r#""mode":"EcsRamRole","region_id":"x""#),
    );
    wait_until(&agent, "the complaint", || state(&agent) == "degraded");
    assert_eq!(agent.read("s&refreshNow=true").status, 200);
}

#[test]
fn a_file_of_no_use_changes_nothing_and_is_told() {
    let cloud = cloud(None);
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let key = access_key(&cloud);
    let good = cli_file(&format!(r#""mode":"AK",{key}"#));
    let agent = at_home(&cloud, home, &[(FILE, &good)]).start();
    assert_reads(&agent);
    for broken in [
        cli_file(r#""mode":"CloudSSO""#),
        good.replace("\"current\":\"dev\"", "\"current\":\"prod\""),
    ] {
        put(home, FILE, &broken);
        wait_until(&agent, "the complaint", || state(&agent) == "degraded");
        assert_eq!(agent.read("s&refreshNow=true").status, 200);
        put(home, FILE, &good);
        wait_until(&agent, "the mending", || state(&agent) == "ok");
    }
    let said = agent.stderr();
    assert!(said.contains("CloudSSO") && said.contains("no profile prod"));
    assert!(!said.contains("until they expire"), "{said}");
}

#[test]
fn a_session_that_others_renew_in_the_file_is_followed() {
    let cloud = cloud(None);
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let file = || {
        let session = cloud.issue_session();
        let text = cli_file(&format!(
            r#""mode":"StsToken","access_key_id":"{}","access_key_secret":"{}","sts_token":"{}""#,
            session.id(),
            session.expose_secret(),
            session.expose_token()
        ));
        (session.id().to_owned(), text)
    };
    let (first_id, first) = file();
    let agent = at_home(&cloud, home, &[(FILE, &first)]).start();
    assert_reads(&agent);
    let (next_id, next) = file();
    put(home, FILE, &next);
    wait_until(&agent, "the next session", || {
        agent.read("s&refreshNow=true");
        last_signer(&cloud).as_deref() == Some(&next_id)
    });
    // The identity is the profile, so the cached entry stays valid.
    cloud.revoke_access_key(&first_id);
    let status = agent.get("/agent/status").json();
    assert_eq!(status["entries"].as_array().unwrap().len(), 1, "{status}");
}
