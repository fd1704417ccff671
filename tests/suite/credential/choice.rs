//! Selection of the provider.

use kms_agent_emulator::{Action, MetadataSettings, TokenEndpoint};

use super::profile::{access_key, cli_file, ini_file};
use super::{assert_reads, cloud, provider, put, role_arn, without_key};
use crate::harness::cloud::Cloud;

#[test]
fn a_key_in_the_environment_reads_with_a_security_token_or_without() {
    let cloud = cloud(None);
    let key = cloud.access_key();
    let setup = without_key(&cloud)
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", key.id())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", key.expose_secret());
    let agent = setup.start();
    assert_reads(&agent);
    assert_eq!(provider(&agent), "environment");

    let session = cloud.issue_session();
    let agent = without_key(&cloud)
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", session.id())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", session.expose_secret())
        .env("ALIBABA_CLOUD_SECURITY_TOKEN", session.expose_token())
        .start();
    assert_reads(&agent);
}

#[test]
fn the_role_of_the_instance_reads_with_either_version_of_the_metadata_service() {
    for token_endpoint in [TokenEndpoint::Present, TokenEndpoint::Absent] {
        for named in [None, Some("app-role")] {
            let cloud = cloud(None);
            cloud.set_metadata(MetadataSettings {
                role: Some("app-role".to_owned()),
                token_endpoint,
                ..MetadataSettings::default()
            });
            let mut setup = without_key(&cloud);
            if let Some(name) = named {
                setup = setup.env("ALIBABA_CLOUD_ECS_METADATA", name);
            }
            let agent = setup.start();
            assert_reads(&agent);
            assert_eq!(provider(&agent), "ecs_ram_role");
            assert!(cloud.calls().iter().any(|call| {
                call.access_key_id
                    .as_deref()
                    .is_some_and(|id| id.starts_with("STS."))
            }));
        }
    }
}

#[test]
fn a_service_account_reads_by_rrsa() {
    let cloud = cloud(None);
    cloud.register_oidc_token("the-projected-token");
    let folder = tempfile::tempdir().unwrap();
    let agent = by_rrsa(&cloud, folder.path(), "the-projected-token\n").start();
    assert_reads(&agent);
    assert_eq!(provider(&agent), "oidc");
    assert_eq!(cloud.count_calls(Action::AssumeRoleWithOidc), 1);
}

/// Sets the three variables of RRSA, with a token in `folder`.
pub(super) fn by_rrsa(
    cloud: &Cloud,
    folder: &std::path::Path,
    token: &str,
) -> kms_agent_test_support::Setup {
    put(folder, "token", token);
    let account = cloud.account_id();
    let token_file = folder.join("token");
    without_key(cloud)
        .env("ALIBABA_CLOUD_ROLE_ARN", role_arn(cloud, "app"))
        .env(
            "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
            format!("acs:ram::{account}:oidc-provider/ack"),
        )
        .env(
            "ALIBABA_CLOUD_OIDC_TOKEN_FILE",
            token_file.to_str().unwrap(),
        )
}

#[test]
fn a_service_that_hands_out_credentials_is_read_by_its_uri() {
    let cloud = cloud(Some("app-role"));
    let agent = without_key(&cloud)
        .env(
            "ALIBABA_CLOUD_CREDENTIALS_URI",
            format!("{}/credentials", cloud.base_url()),
        )
        .start();
    assert_reads(&agent);
    assert_eq!(provider(&agent), "uri");
}

#[test]
fn the_first_configured_provider_counts_and_a_named_one_before_all() {
    let cloud = cloud(Some("app-role"));
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let key = access_key(&cloud);
    let (cli, ini) = (cli_file(&format!(r#""mode":"AK",{key}"#)), ini_file(&cloud));
    let files = [
        (".aliyun/config.json", cli.as_str()),
        (".alibabacloud/credentials", ini.as_str()),
    ];
    for (path, text) in files {
        put(home, path, text);
    }
    let full = || {
        let rrsa = by_rrsa(&cloud, home, "any-token");
        let key = cloud.access_key();
        rrsa.env("HOME", home.to_str().unwrap())
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", key.id())
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", key.expose_secret())
            .env("ALIBABA_CLOUD_ECS_METADATA", "app-role")
            .env(
                "ALIBABA_CLOUD_CREDENTIALS_URI",
                format!("{}/credentials", cloud.base_url()),
            )
    };
    // The providers are removed one after the other.
    let gone = [
        ("environment", vec![]),
        (
            "oidc",
            vec![
                "ALIBABA_CLOUD_ACCESS_KEY_ID",
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
            ],
        ),
        ("cli_profile", vec!["ALIBABA_CLOUD_ROLE_ARN"]),
        ("profile", vec!["CLI"]),
        ("ecs_ram_role", vec!["HOME"]),
        ("uri", vec!["ALIBABA_CLOUD_ECS_METADATA"]),
        ("ecs_ram_role", vec!["ALIBABA_CLOUD_CREDENTIALS_URI"]),
    ];
    let mut missing = Vec::new();
    for (expected, more) in gone {
        missing.extend(more);
        let setup = missing.iter().fold(full(), |setup, name| match *name {
            "CLI" => setup.env("ALIBABA_CLOUD_CLI_PROFILE_DISABLED", "TRUE"),
            name => setup.env(name, ""),
        });
        let agent = setup.start();
        assert_reads(&agent);
        assert_eq!(provider(&agent), expected, "without {missing:?}");
    }

    for (named, expected) in [
        ("Environment", "environment"),
        ("OIDC", "oidc"),
        ("Profile", "cli_profile"),
        ("EcsRamRole", "ecs_ram_role"),
        ("Uri", "uri"),
    ] {
        let agent = full()
            .and_config(&format!("Provider = \"{named}\"\n"))
            .start();
        assert_reads(&agent);
        assert_eq!(provider(&agent), expected);
    }
}

#[test]
fn a_refused_identity_is_503_and_never_becomes_another_one() {
    let cloud = cloud(Some("app-role"));
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
fn a_cold_secret_is_one_call_also_while_the_role_is_still_being_found_out() {
    for _ in 0..5 {
        let cloud = cloud(Some("app-role"));
        // Readers arrive before, during and after the look-up of the role.
        for action in [Action::Metadata, Action::GetSecretValue] {
            let late = kms_agent_emulator::Fault::latency(std::time::Duration::from_millis(100));
            cloud.fault(late.on(action)).unwrap();
        }
        let agent = without_key(&cloud).start();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| assert_reads(&agent));
                std::thread::sleep(std::time::Duration::from_millis(25));
            }
        });
        assert_eq!(cloud.reads(), 1);
    }
}
