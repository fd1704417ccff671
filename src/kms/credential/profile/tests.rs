use std::path::Path;
use std::time::Duration;

use super::*;
use crate::credential::sts::Sts;
use crate::http::{HttpSend, Method};
use crate::testing::{ManualClock, Script, answer, manual_clock, settle};

const ROLE: &str = "acs:ram::1:role/r";
const STS: &str = "https://sts-vpc.cn-beijing.aliyuncs.com/";

#[expect(clippy::disallowed_methods, reason = "a test makes its own files")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
}

fn provider(path: &Path, script: &Arc<Script>) -> (Arc<ProfileProvider>, Arc<ManualClock>) {
    let clock = manual_clock();
    let http: Arc<dyn HttpSend> = Arc::clone(script) as _;
    let context = ProviderContext {
        environment: [("ALIBABA_CLOUD_CONFIG_FILE", path.to_str().expect("a path"))]
            .into_iter()
            .collect(),
        sts: Sts {
            http: Arc::clone(&http),
            endpoint: None,
            timeout: Duration::from_secs(5),
            clock: Arc::clone(&clock) as _,
            server_clock: Arc::default(),
        },
        uri: http,
        metadata: None,
    };
    let mut places = ProfilePlace::all(&context.environment);
    let provider = ProfileProvider::new(places.remove(0), context);
    (Arc::new(provider), clock)
}

fn key(id: &str) -> String {
    format!(
        r#"{{"current":"dev","profiles":[{{"name":"dev","mode":"AK","access_key_id":"{id}","access_key_secret":"hunter2"}}]}}"#
    )
}

fn role() -> String {
    key("LTAI").replace(
        r#""mode":"AK""#,
        &format!(
            r#""mode":"RamRoleArn","ram_role_arn":"{ROLE}","sts_region":"cn-beijing","enable_vpc":true,"ram_session_name":"me""#
        ),
    )
}

fn issued(id: &str) -> String {
    format!(
        r#"{{"Credentials":{{"AccessKeyId":"{id}","AccessKeySecret":"s","SecurityToken":"t-{id}","Expiration":"2026-01-02T04:04:05Z"}}}}"#
    )
}

#[tokio::test]
async fn the_file_is_read_each_time_and_a_change_of_it_is_noticed() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    write(file.path(), &key("one"));
    let (provider, clock) = provider(file.path(), &Script::new());
    assert_eq!(provider.identity(), None);
    let obtained = provider.obtain().await.expect("a key");
    assert_eq!(&*obtained.identity, "one");
    assert!(!format!("{provider:?} {obtained:?}").contains("hunter2"));

    let watched = Arc::clone(&provider);
    let change = tokio::spawn(async move { watched.changed().await });
    let look = async || {
        settle().await;
        clock.advance(LOOK_EVERY);
        settle().await;
        tokio::task::spawn_blocking(|| ()).await.expect("no panic");
        settle().await;
    };
    look().await;
    // The same content, written again.
    write(file.path(), &key("one"));
    look().await;
    assert!(!change.is_finished());
    write(file.path(), &key("two"));
    while !change.is_finished() {
        look().await;
    }
    assert_eq!(&*provider.obtain().await.expect("a key").identity, "two");
}

#[tokio::test]
async fn a_role_is_assumed_by_a_signed_call_to_the_gateway_that_the_profile_names() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    write(file.path(), &role());
    let script = Script::new().expect(Method::Post, STS, answer(200, &issued("STS.a")));
    let (provider, _) = provider(file.path(), &script);
    let obtained = provider.obtain().await.expect("credentials");
    assert_eq!(&*obtained.identity, ROLE);
    assert_eq!(obtained.credential.security_token(), Some("t-STS.a"));
    assert_eq!(
        script.sent_body(0),
        "DurationSeconds=3600&RoleArn=acs%3Aram%3A%3A1%3Arole%2Fr&RoleSessionName=me"
    );
    let header = |name| script.sent_header(0, name).expect(name);
    assert_eq!(header("x-acs-action"), "AssumeRole");
    assert_eq!(header("x-acs-version"), "2015-04-01");
    assert!(
        header("authorization")
            .starts_with("ACS3-HMAC-SHA256 Credential=LTAI,SignedHeaders=content-type;host;")
    );
}

#[tokio::test]
async fn roles_of_roles_are_assumed_with_the_credentials_of_the_one_before() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let outer = r#","sts_region":"cn-beijing","enable_vpc":true},{"name":"outer","mode":"ChainableRamRoleArn",
        "source_profile":"dev","ram_role_arn":"acs:ram::1:role/o","sts_region":"cn-beijing","enable_vpc":true}]}"#;
    let text = role()
        .replace("}]}", outer)
        .replace(r#""current":"dev""#, r#""current":"outer""#);
    let text = text.replacen(r#","sts_region":"cn-beijing","enable_vpc":true"#, "", 1);
    write(file.path(), &text);
    let script = Script::new()
        .expect(Method::Post, STS, answer(200, &issued("STS.a")))
        .expect(Method::Post, STS, answer(200, &issued("STS.b")));
    let (provider, _) = provider(file.path(), &script);
    let obtained = provider.obtain().await.expect("credentials");
    assert_eq!(&*obtained.identity, "acs:ram::1:role/o");
    assert_eq!(script.sent_header(0, "x-acs-security-token"), None);
    assert_eq!(
        script.sent_header(1, "x-acs-security-token").as_deref(),
        Some("t-STS.a")
    );
    assert!(script.sent_body(1).contains("role%2Fo"));
}

#[tokio::test]
async fn the_identity_is_known_from_the_file_though_sts_fails_and_the_failure_says_who_where_and_what_to_do()
 {
    let file = tempfile::NamedTempFile::new().expect("a file");
    write(file.path(), &role());
    let refusal = r#"{"Code":"NoPermission","Message":"hunter2"}"#;
    let script = Script::new().expect(Method::Post, STS, answer(403, refusal));
    let (provider, _) = provider(file.path(), &script);
    let text = provider.obtain().await.expect_err("refused").to_string();
    let path = file.path().to_str().expect("a path");
    for part in [
        "profile dev",
        path,
        ROLE,
        "sts-vpc.cn-beijing.aliyuncs.com",
        "403 NoPermission",
        "check the role",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(provider.identity().as_deref(), Some(ROLE));

    write(file.path(), &role().replace("cn-beijing", "evil.example/"));
    let text = provider.obtain().await.expect_err("no region").to_string();
    assert!(
        text.contains("sts_region must be") && !text.contains("evil"),
        "{text}"
    );
}
