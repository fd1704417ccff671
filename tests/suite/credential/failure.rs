//! One message for each failure: the provider, the attempt and the remedy.

use kms_agent_emulator::{Action, Fault, FaultKind, MetadataSettings, TokenEndpoint};
use kms_agent_test_support::Setup;

use super::choice::by_rrsa;
use super::profile::{access_key, cli_file};
use super::{at_home, cloud, put, role_arn, wait_until, without_key};
use crate::harness::cloud::Cloud;

/// Texts that no message may contain.
const CANARY: &str = "hunter2";

const SAID: &str = "Credentials cannot be obtained";

/// Starts an agent without credentials and expects one message with all of `parts`.
fn assert_says(case: &str, setup: Setup, parts: &[&str]) {
    let agent = setup.start();
    let reply = agent.read("s");
    assert_eq!(
        (reply.status, reply.json()["Code"].as_str()),
        (503, Some("CredentialsUnavailable")),
        "{case}"
    );
    wait_until(&agent, SAID, || agent.stderr().contains(SAID));
    // A second reader gets the same failure.
    agent.read("s");
    let (_, said) = agent.stop();
    let lines: Vec<_> = said.lines().filter(|line| line.contains(SAID)).collect();
    assert_eq!(lines.len(), 1, "{case}: {said}");
    let line = lines[0];
    for part in parts {
        assert!(line.contains(part), "{case}: no {part:?} in {line}");
    }
    assert!(!said.contains(CANARY), "{case}: {said}");
    assert!(!reply.text().contains(CANARY), "{case}: {}", reply.text());
}

#[test]
fn of_the_environment() {
    let cloud = cloud(None);
    assert_says(
        "half a key",
        without_key(&cloud).env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", CANARY),
        &[
            "from the environment",
            "ALIBABA_CLOUD_ACCESS_KEY_ID is not",
            "set both or neither",
        ],
    );
    assert_says(
        "nothing at all",
        without_key(&cloud).env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true"),
        &[
            "no credentials are configured",
            "set ALIBABA_CLOUD_ACCESS_KEY_ID",
        ],
    );
}

#[test]
fn of_a_token() {
    let role = |cloud: &Cloud| role_arn(cloud, "app");
    let folder = tempfile::tempdir().unwrap();

    let cloud = cloud(None);
    let setup = by_rrsa(&cloud, folder.path(), CANARY);
    std::fs::remove_file(folder.path().join("token")).unwrap();
    let path = folder.path().join("token");
    assert_says(
        "no token file",
        setup,
        &[
            "by OIDC",
            path.to_str().unwrap(),
            "there is no such file",
            "token is mounted there",
        ],
    );

    cloud.register_oidc_token("another-token");
    assert_says(
        "a token that is refused",
        by_rrsa(&cloud, folder.path(), CANARY),
        &[
            "by OIDC",
            &role(&cloud),
            "400 AuthenticationFail.OIDCToken.Invalid",
            "check the role",
        ],
    );

    let nobody = by_rrsa(&cloud, folder.path(), CANARY);
    let url = cloud.base_url().to_owned();
    drop(cloud);
    assert_says(
        "no STS",
        nobody,
        &[
            "by OIDC",
            url.trim_start_matches("http://"),
            "check the role",
        ],
    );
}

#[test]
fn of_the_cli_configuration() {
    let cloud = cloud(None);
    let folder = tempfile::tempdir().unwrap();
    let role = role_arn(&cloud, "app");
    let key = access_key(&cloud);
    let foreign = format!(r#""access_key_id":"LTAI5tNoSuchKey","access_key_secret":"{CANARY}""#);
    let circle = format!(
        r#""mode":"ChainableRamRoleArn","ram_role_arn":"{role}","source_profile":"other"}},
           {{"name":"other","mode":"ChainableRamRoleArn","ram_role_arn":"{role}","source_profile":"dev""#
    );
    let path = folder.path().join(".aliyun/config.json");
    let path = path.to_str().unwrap();
    for (case, file, parts) in [
        (
            "no JSON",
            CANARY.to_owned(),
            vec!["not the JSON", "aliyun configure"],
        ),
        (
            "no such profile",
            "{\"current\":\"prod\"}".to_owned(),
            vec!["no profile prod", "aliyun configure"],
        ),
        (
            "a mode that needs a browser",
            cli_file(r#""mode":"CloudSSO","access_token":"hunter2""#),
            vec!["profile dev", "CloudSSO", "not support", "RamRoleArn"],
        ),
        (
            "half a key",
            cli_file(r#""mode":"AK","access_key_id":"hunter2""#),
            vec!["no access_key_secret"],
        ),
        (
            "a circle",
            cli_file(&circle),
            vec!["in a circle: dev -> other -> dev"],
        ),
        (
            "a key that STS does not know",
            cli_file(&format!(
                r#""mode":"RamRoleArn",{foreign},"ram_role_arn":"{role}""#
            )),
            vec![
                "profile dev",
                "AssumeRole for",
                &role,
                "404 InvalidAccessKeyId.NotFound",
                "check the role",
            ],
        ),
        (
            "no metadata service",
            cli_file(r#""mode":"EcsRamRole","ram_role_name":"other-role""#),
            vec![
                "profile dev",
                "RAM role other-role is not attached",
                "attach it",
            ],
        ),
        (
            "no token file",
            cli_file(&format!(
                r#""mode":"OIDC",{key},"ram_role_arn":"{role}","oidc_provider_arn":"p","oidc_token_file":"/no/such/token""#
            )),
            vec!["profile dev", "/no/such/token", "token is mounted there"],
        ),
    ] {
        let setup = at_home(&cloud, folder.path(), &[(".aliyun/config.json", &file)]);
        let parts: Vec<_> = parts
            .into_iter()
            .chain(["CLI configuration", path])
            .collect();
        assert_says(case, setup, &parts);
    }
}

#[test]
fn of_the_credentials_file() {
    let cloud = cloud(None);
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let path = home.join(".alibabacloud/credentials.ini");
    let path = path.to_str().unwrap();
    for (case, file, parts) in [
        (
            "no section",
            "[prod]\ntype = access_key\n",
            ["no section [default]", "remove it"],
        ),
        (
            "a type of older days",
            "[default]\ntype = rsa_key_pair\npublic_key_id = hunter2\n",
            ["rsa_key_pair", "use access_key"],
        ),
        (
            "half a key",
            "[default]\ntype = access_key\naccess_key_id = hunter2\n",
            ["no access_key_secret", "fix it"],
        ),
    ] {
        let setup = at_home(&cloud, home, &[(".alibabacloud/credentials.ini", file)]);
        let parts: Vec<_> = parts
            .into_iter()
            .chain(["credentials file", path])
            .collect();
        assert_says(case, setup, &parts);
    }
    let empty = home.join("empty");
    put(home, "empty/nothing", "");
    assert_says(
        "no file at all",
        at_home(&cloud, &empty, &[]).and_config("Provider = \"Profile\"\n"),
        &[
            "from a profile",
            "there is no",
            ".aliyun/config.json",
            "write one",
        ],
    );
    assert_says(
        "a file that is named and missing",
        at_home(&cloud, &empty, &[]).env("ALIBABA_CLOUD_CREDENTIALS_FILE", "/no/such/file"),
        &[
            "credentials file /no/such/file",
            "cannot be read",
            "ALIBABA_CLOUD_CREDENTIALS_FILE",
        ],
    );
}

#[test]
fn of_the_instance() {
    let origin = "of the ECS RAM role";
    let none = cloud(None);
    assert_says(
        "no role",
        without_key(&none),
        &[origin, "no RAM role is attached", "attach a RAM role"],
    );

    none.set_metadata(MetadataSettings {
        token_endpoint: TokenEndpoint::Absent,
        ..MetadataSettings::default()
    });
    assert_says(
        "no session token",
        without_key(&none).env("ALIBABA_CLOUD_IMDSV1_DISABLED", "true"),
        &[
            origin,
            "no session token (status 404)",
            "ALIBABA_CLOUD_IMDSV1_DISABLED",
            "unset that",
        ],
    );

    let garbled = cloud(Some("app-role"));
    let garbage = Fault::new(FaultKind::Garbage).body(format!("{{\"{CANARY}\":1}}"));
    garbled.fault(garbage.on(Action::Metadata)).unwrap();
    assert_says(
        "garbage",
        without_key(&garbled).env("ALIBABA_CLOUD_ECS_METADATA", "app-role"),
        &[
            origin,
            "its answer holds no complete credentials",
            "attach a RAM role",
        ],
    );

    let setup = without_key(&garbled);
    let url = garbled.base_url().to_owned();
    drop(garbled);
    assert_says(
        "nobody there",
        setup,
        &[
            origin,
            url.trim_start_matches("http://"),
            "was asked",
            "another provider",
        ],
    );
    assert_says(
        "asked for, and forbidden",
        without_key(&none)
            .and_config("Provider = \"EcsRamRole\"\n")
            .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true"),
        &[
            origin,
            "disabled by ALIBABA_CLOUD_ECS_METADATA_DISABLED",
            "unset it",
        ],
    );
}

#[test]
fn of_a_uri() {
    let cloud = cloud(None);
    let with = |uri: String| without_key(&cloud).env("ALIBABA_CLOUD_CREDENTIALS_URI", uri);
    let origin = "from the URI in ALIBABA_CLOUD_CREDENTIALS_URI";
    let uri = format!("{}/nothing?key={CANARY}", cloud.base_url());
    assert_says(
        "another path",
        with(uri),
        &[origin, "status 404", "check the URI"],
    );

    let fault = Fault::new(FaultKind::Garbage).body(format!("{{\"Code\":\"{CANARY}\"}}"));
    cloud.fault(fault.on(Action::CredentialsUri)).unwrap();
    let uri = format!("{}/credentials?key={CANARY}", cloud.base_url());
    assert_says(
        "garbage",
        with(uri),
        &[origin, "reports a failure", "check the URI"],
    );
    assert_says(
        "another scheme",
        with(format!("file:///{CANARY}")),
        &["from a URI", "must hold an http:// or https:// URI"],
    );
}
