use kms_agent_emulator::{AccessKey, Emulator, MetadataSettings, PutSecret, TokenEndpoint};

use crate::client::{Outgoing, Received, Signer, start};

const ROLES: &str = "/latest/meta-data/ram/security-credentials/";

async fn get(emulator: &Emulator, path: &str, token: Option<&str>) -> Received {
    let mut request = Outgoing::new("GET", path);
    if let Some(token) = token {
        request = request.header("X-aliyun-ecs-metadata-token", token);
    }
    request.send(emulator).await
}

async fn put(emulator: &Emulator, ttl: Option<&str>) -> Received {
    let mut request = Outgoing::new("PUT", "/latest/api/token");
    if let Some(ttl) = ttl {
        request = request.header("X-aliyun-ecs-metadata-token-ttl-seconds", ttl);
    }
    request.send(emulator).await
}

#[tokio::test]
async fn the_roles_credentials_open_kms() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a", "v")).unwrap();
    let token = put(&emulator, Some("21600")).await;
    let token = Some(token.text());
    let role = get(&emulator, ROLES, token).await;
    assert_eq!(role.text(), "kms-agent-role");
    let path = format!("{ROLES}{}", role.text());
    let credentials = get(&emulator, &path, token).await.json();
    assert_eq!(credentials["Code"], "Success");
    assert!(credentials["LastUpdated"].is_string() && credentials["Expiration"].is_string());

    let member = |name: &str| credentials[name].as_str().unwrap().to_owned();
    let key = AccessKey::new(member("AccessKeyId"), member("AccessKeySecret"));
    let mut signer = Signer::new(&key).parameter("SecretName", "a");
    signer.token = Some(member("SecurityToken"));
    assert_eq!(signer.send(&emulator).await.status, Some(200));
}

#[tokio::test]
async fn a_token_needs_a_lifetime_within_bounds() {
    let emulator = start();
    for ttl in [None, Some("0"), Some("21601"), Some("-1"), Some("x")] {
        assert_eq!(put(&emulator, ttl).await.status, Some(400), "{ttl:?}");
    }
    assert_eq!(put(&emulator, Some("1")).await.status, Some(200));
}

#[tokio::test]
async fn a_token_is_checked_when_one_is_sent() {
    let emulator = start();
    let region = "/latest/meta-data/region-id";
    assert_eq!(get(&emulator, region, None).await.text(), "cn-hangzhou");
    assert_eq!(
        get(&emulator, region, Some("made-up")).await.status,
        Some(401)
    );
    let token = put(&emulator, Some("60")).await;
    let token = Some(token.text());
    assert_eq!(get(&emulator, region, token).await.status, Some(200));
    emulator.set_clock_offset(61);
    assert_eq!(get(&emulator, region, token).await.status, Some(401));
}

#[tokio::test]
async fn version_1_can_be_refused() {
    let emulator = start();
    emulator.set_metadata(MetadataSettings {
        allow_v1: false,
        ..MetadataSettings::default()
    });
    assert_eq!(get(&emulator, ROLES, None).await.status, Some(401));
    let token = put(&emulator, Some("60")).await;
    assert_eq!(
        get(&emulator, ROLES, Some(token.text())).await.status,
        Some(200)
    );
}

#[tokio::test]
async fn version_2_can_be_absent_or_forbidden() {
    let emulator = start();
    for (token_endpoint, status) in [
        (TokenEndpoint::Absent, 404),
        (TokenEndpoint::Forbidden, 403),
    ] {
        emulator.set_metadata(MetadataSettings {
            token_endpoint,
            ..MetadataSettings::default()
        });
        assert_eq!(put(&emulator, Some("60")).await.status, Some(status));
        assert_eq!(get(&emulator, ROLES, None).await.status, Some(200));
    }
}

#[tokio::test]
async fn without_a_role_there_are_no_credentials() {
    let emulator = start();
    emulator.set_metadata(MetadataSettings {
        role: None,
        ..MetadataSettings::default()
    });
    assert_eq!(get(&emulator, ROLES, None).await.status, Some(404));
    let path = format!("{ROLES}kms-agent-role");
    assert_eq!(get(&emulator, &path, None).await.status, Some(404));
    let instance = "/latest/meta-data/instance-id";
    assert!(
        get(&emulator, instance, None)
            .await
            .text()
            .starts_with("i-")
    );
}

#[tokio::test]
async fn the_credentials_uri_hands_out_one_key_until_that_has_ended() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a", "v")).unwrap();
    let handed_out = async || get(&emulator, "/credentials", None).await.json();
    let first = handed_out().await;
    assert_eq!(handed_out().await["AccessKeyId"], first["AccessKeyId"]);
    emulator.set_clock_offset(3601);
    let next = handed_out().await;
    assert_ne!(next["AccessKeyId"], first["AccessKeyId"]);

    emulator.set_clock_offset(0);
    let member = |name: &str| next[name].as_str().unwrap().to_owned();
    let key = AccessKey::new(member("AccessKeyId"), member("AccessKeySecret"));
    let mut signer = Signer::new(&key).parameter("SecretName", "a");
    signer.token = Some(member("SecurityToken"));
    assert_eq!(signer.send(&emulator).await.status, Some(200));
}
