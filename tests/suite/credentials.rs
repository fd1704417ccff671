//! The same job with each way of being somebody.

use std::time::{Duration, Instant};

use kms_agent_emulator::{Action, MetadataSettings, TokenEndpoint};
use kms_agent_test_support::Setup;

use crate::cloud::{BINARY, Cloud};

/// An agent without an access key, all its services where `cloud` is.
fn without_key(cloud: &Cloud) -> Setup {
    let url = cloud.base_url();
    let setup = Setup::new(BINARY).env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "false");
    setup.and_config(&format!(
        "[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{url}\"\n[Credentials]\nStsEndpoint = \"{url}\"\nMetadataEndpoint = \"{url}\"\n"
    ))
}

#[test]
fn the_role_of_the_instance_reads_with_either_version_of_the_metadata_service() {
    for token_endpoint in [TokenEndpoint::Present, TokenEndpoint::Absent] {
        let cloud = Cloud::start();
        cloud.put("s", "value");
        cloud.set_metadata(MetadataSettings {
            role: Some("app-role".to_owned()),
            token_endpoint,
            ..MetadataSettings::default()
        });
        let agent = without_key(&cloud).start();
        let reply = agent.read("s");
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["SecretData"], "value");
        assert!(cloud.calls().iter().any(|call| {
            call.access_key_id
                .as_deref()
                .is_some_and(|id| id.starts_with("STS."))
        }));
    }
}

#[test]
fn a_service_account_reads_by_rrsa() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    cloud.register_oidc_token("the-projected-token");
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "the-projected-token\n").unwrap();
    let role = format!("acs:ram::{}:role/app", cloud.account_id());
    let agent = without_key(&cloud)
        .env("ALIBABA_CLOUD_ROLE_ARN", &role)
        .env(
            "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
            format!("acs:ram::{}:oidc-provider/ack", cloud.account_id()),
        )
        .env("ALIBABA_CLOUD_OIDC_TOKEN_FILE", token.to_str().unwrap())
        .start();
    let reply = agent.read("s");
    assert_eq!(reply.status, 200, "{}\n{}", reply.text(), agent.stderr());
    assert_eq!(reply.json()["SecretData"], "value");
    assert_eq!(cloud.count_calls(Action::AssumeRoleWithOidc), 1);
}

#[test]
fn without_credentials_it_starts_says_so_and_recovers() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    cloud.set_metadata(MetadataSettings {
        role: None,
        ..MetadataSettings::default()
    });
    let agent = without_key(&cloud).start();
    let reply = agent.read("s");
    assert_eq!(
        (reply.status, reply.json()["Code"].as_str()),
        (503, Some("CredentialsUnavailable"))
    );
    let ready = kms_agent_test_support::http::get(agent.port(), "/readyz", &[]);
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert_eq!(ready.json()["checks"]["credentials"]["state"], "failed");

    cloud.set_metadata(MetadataSettings {
        role: Some("app-role".to_owned()),
        ..MetadataSettings::default()
    });
    let began = Instant::now();
    while agent.read("s").status != 200 {
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "it never recovers:\n{}",
            agent.stderr()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(
        kms_agent_test_support::http::get(agent.port(), "/readyz", &[]).status,
        200
    );
}

#[test]
fn a_refused_identity_is_503_and_never_becomes_another_one() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    cloud.set_metadata(MetadataSettings {
        role: Some("app-role".to_owned()),
        ..MetadataSettings::default()
    });
    let agent = without_key(&cloud)
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI5tNoSuchKey")
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "no-such-secret")
        .start();
    let reply = agent.read("s");
    assert_eq!(
        (reply.status, reply.json()["Code"].as_str()),
        (503, Some("CredentialsUnavailable"))
    );
    assert!(
        reply.text().contains("InvalidAccessKeyId.NotFound"),
        "{}",
        reply.text()
    );
    assert!(cloud.calls().iter().all(|call| {
        call.access_key_id
            .as_deref()
            .is_none_or(|id| !id.starts_with("STS."))
    }));
}

#[test]
fn credentials_that_last_seconds_fail_no_reader() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    cloud.set_session_lifetime(Some(Duration::from_secs(3)));
    cloud.set_metadata(MetadataSettings {
        role: Some("app-role".to_owned()),
        ..MetadataSettings::default()
    });
    let agent = without_key(&cloud).start();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(7) {
        let reply = agent.read("s&refreshNow=true");
        assert_eq!(reply.status, 200, "{}\n{}", reply.text(), agent.stderr());
        std::thread::sleep(Duration::from_millis(100));
    }
}
