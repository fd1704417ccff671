use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::http::{HttpError, HttpErrorKind, Method};
use crate::testing::{Script, ScriptedOutcome, answer, manual_clock, with_header};

const ARN: &str = "acs:ram::1:role/agent";
const PROVIDER_ARN: &str = "acs:ram::1:oidc-provider/ack";
const ANSWER: &str = r#"{"RequestId":"r","Credentials":{"AccessKeyId":"STS.a","AccessKeySecret":"hunter2",
    "SecurityToken":"t0k","Expiration":"2026-01-02T04:04:05Z"}}"#;

fn token_file(token: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(token.as_bytes()).expect("written");
    file
}

fn provider(
    script: &Arc<Script>,
    file: &Path,
    more: &[(&str, &str)],
) -> Result<OidcProvider, CredentialError> {
    let environment = [
        (ROLE, ARN),
        (IDENTITY_PROVIDER, PROVIDER_ARN),
        (TOKEN_FILE, file.to_str().expect("a path")),
    ]
    .into_iter()
    .chain(more.iter().copied())
    .collect();
    assert!(is_configured(&environment));
    OidcProvider::parse(&sts(script), &environment)
}

fn sts(script: &Arc<Script>) -> Sts {
    Sts {
        http: Arc::clone(script) as _,
        endpoint: None,
        timeout: Duration::from_secs(5),
        clock: manual_clock(),
        server_clock: Arc::default(),
    }
}

async fn refused(outcome: ScriptedOutcome) -> String {
    let file = token_file("ey.JhbGci");
    let script = Script::new().expect(Method::Post, "https://sts.aliyuncs.com/", outcome);
    let provider = provider(&script, file.path(), &[]).expect("configured");
    provider.obtain().await.expect_err("refused").to_string()
}

#[tokio::test]
async fn the_token_goes_into_the_body_and_is_read_again_each_time() {
    let mut file = token_file(" ey.J/1\n");
    let url = "https://sts.aliyuncs.com/?Action=AssumeRoleWithOIDC&Format=JSON\
         &Timestamp=2026-01-02T03%3A04%3A05Z&Version=2015-04-01";
    let dated = with_header(answer(200, ANSWER), "date", "Fri, 02 Jan 2026 03:04:05 GMT");
    let script = Script::new().expect(Method::Post, url, dated).expect(
        Method::Post,
        url,
        answer(200, ANSWER),
    );
    let provider = provider(
        &script,
        file.path(),
        &[("ALIBABA_CLOUD_ROLE_SESSION_NAME", "me")],
    )
    .expect("configured");
    assert_eq!(provider.identity().as_deref(), Some(ARN));
    let obtained = provider.obtain().await.expect("credentials");
    assert_eq!(obtained.credential.access_key_secret(), "hunter2");
    assert_eq!(obtained.issuer_time, Some(crate::testing::WALL));
    file.write_all(b"2").expect("written");
    provider.obtain().await.expect("credentials");
    assert_eq!(
        script.sent_body(0),
        "DurationSeconds=3600&OIDCProviderArn=acs%3Aram%3A%3A1%3Aoidc-provider%2Fack&OIDCToken=ey.J%2F1\
         &RoleArn=acs%3Aram%3A%3A1%3Arole%2Fagent&RoleSessionName=me"
    );
    assert!(script.sent_body(1).contains("OIDCToken=ey.J%2F1%0A2&"));
    assert_eq!(
        script.sent_header(0, "content-type").as_deref(),
        Some("application/x-www-form-urlencoded")
    );
}

#[tokio::test]
async fn the_environment_chooses_the_gateway_of_sts() {
    let file = token_file("t0k");
    for (more, host) in [
        (
            vec![("ALIBABA_CLOUD_STS_REGION", "cn-a")],
            "sts.cn-a.aliyuncs.com",
        ),
        (
            vec![
                ("ALIBABA_CLOUD_STS_REGION", "cn-a"),
                ("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED", "True"),
            ],
            "sts-vpc.cn-a.aliyuncs.com",
        ),
        (
            vec![("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED", "true")],
            "sts.aliyuncs.com",
        ),
    ] {
        let url = format!("https://{host}/?");
        let script = Script::new().expect(Method::Post, &url, answer(200, ANSWER));
        let provider = provider(&script, file.path(), &more).expect("configured");
        assert!(provider.obtain().await.is_ok());
    }
    let bad = provider(
        &Script::new(),
        file.path(),
        &[("ALIBABA_CLOUD_STS_REGION", "a.b/")],
    );
    assert!(bad.is_err());
}

#[tokio::test]
async fn a_failure_says_who_refused_and_why_but_holds_no_token_and_no_body() {
    let body = r#"{"Code":"AuthenticationFail.OIDCToken.Expired","Message":"ey.JhbGci is old"}"#;
    for outcome in [
        answer(400, body),
        answer(200, "{\"Credentials\":{\"AccessKeySecret\":\"ey.JhbGci\"}}"),
        answer(500, "ey.JhbGci"),
        Err(HttpError::new(HttpErrorKind::Connect, "refused")),
    ] {
        let text = refused(outcome).await;
        assert!(
            text.contains(ARN) && text.contains("sts.aliyuncs.com"),
            "{text}"
        );
        assert!(!text.contains("ey.JhbGci"), "{text}");
    }
    let text = refused(answer(400, body)).await;
    assert!(
        text.contains("400 AuthenticationFail.OIDCToken.Expired"),
        "{text}"
    );
}

#[tokio::test]
async fn a_token_file_that_is_missing_or_empty_is_named() {
    let file = token_file(" \n");
    for path in [file.path(), Path::new("/no/such/token")] {
        let provider = provider(&Script::new(), path, &[]).expect("configured");
        let text = provider.obtain().await.expect_err("no token").to_string();
        assert!(text.contains(path.to_str().expect("a path")), "{text}");
    }
}

#[test]
fn all_three_variables_are_needed() {
    let environment: Environment = [(ROLE, ARN), (TOKEN_FILE, "/t")].into_iter().collect();
    assert!(!is_configured(&environment));
    let error = OidcProvider::parse(&sts(&Script::new()), &environment).expect_err("not all");
    assert!(error.to_string().contains(IDENTITY_PROVIDER));
}

#[tokio::test]
async fn a_clock_that_is_off_is_made_up_for_once_by_that_of_sts() {
    let file = token_file("t0k");
    let skewed = with_header(
        answer(400, r#"{"Code":"InvalidTimeStamp.Expired"}"#),
        "date",
        "Fri, 02 Jan 2026 05:04:05 GMT",
    );
    let url =
        "https://sts.aliyuncs.com/?Action=AssumeRoleWithOIDC&Format=JSON&Timestamp=2026-01-02T0";
    let script = Script::new()
        .expect(Method::Post, &format!("{url}3"), skewed)
        .expect(Method::Post, &format!("{url}5"), answer(200, ANSWER));
    let provider = provider(&script, file.path(), &[]).expect("configured");
    assert!(provider.obtain().await.is_ok());
}
