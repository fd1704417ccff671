use std::time::{Duration, SystemTime};

use kms_agent_emulator::{AccessKey, Action, Emulator, PutSecret};
use serde_json::Value;

use crate::client::{Outgoing, Received, Signer, date, start};

const FORM: &str = "application/x-www-form-urlencoded";
const ROLE: &str = "acs%3Aram%3A%3A1234567890123456%3Arole%2Fdemo";
const PROVIDER: &str = "acs%3Aram%3A%3A1234567890123456%3Aoidc-provider%2Fack";

fn with_oidc(token: &str, extra: &str) -> Outgoing {
    let form = format!(
        "RoleArn={ROLE}&OIDCProviderArn={PROVIDER}&OIDCToken={token}&RoleSessionName=kms-agent{extra}"
    );
    Outgoing::new(
        "POST",
        "/?Action=AssumeRoleWithOIDC&Version=2015-04-01&Format=JSON",
    )
    .header("content-type", FORM)
    .body(&form)
}

fn signer(credentials: &Value) -> Signer {
    let member = |name: &str| credentials[name].as_str().unwrap().to_owned();
    let key = AccessKey::new(member("AccessKeyId"), member("AccessKeySecret"));
    let mut signer = Signer::new(&key);
    signer.token = Some(member("SecurityToken"));
    signer.parameter("SecretName", "a")
}

async fn assume_role(emulator: &Emulator, body: &str) -> Received {
    let mut signer = Signer::new(emulator.access_key());
    signer.action = "AssumeRole";
    signer.version = "2015-04-01";
    signer.headers = vec![("content-type".to_owned(), FORM.to_owned())];
    body.clone_into(&mut signer.body);
    signer.send(emulator).await
}

#[tokio::test]
async fn credentials_for_an_oidc_token_open_kms_until_they_expire() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a", "v")).unwrap();
    let reply = with_oidc("abcd", "&DurationSeconds=900")
        .send(&emulator)
        .await;
    let body = reply.json();
    assert_eq!(
        body["AssumedRoleUser"]["Arn"],
        "acs:ram::1234567890123456:role/demo/kms-agent"
    );
    assert!(body["OIDCTokenInfo"].is_object());
    let credentials = &body["Credentials"];
    assert!(
        credentials["AccessKeyId"]
            .as_str()
            .unwrap()
            .starts_with("STS.")
    );
    assert_eq!(signer(credentials).send(&emulator).await.status, Some(200));

    emulator.set_clock_offset(901);
    let mut late = signer(credentials);
    late.date = date(SystemTime::now() + Duration::from_secs(901));
    let reply = late.send(&emulator).await;
    assert_eq!(
        reply.error(),
        (400, "InvalidSecurityToken.Expired".to_owned())
    );
}

#[tokio::test]
async fn only_registered_tokens_and_roles_are_accepted_once_there_are_any() {
    let emulator = start();
    emulator.register_oidc_token("good-token");
    let reply = with_oidc("other-token", "").send(&emulator).await;
    assert_eq!(
        reply.error(),
        (400, "AuthenticationFail.OIDCToken.Invalid".to_owned())
    );
    assert_eq!(
        with_oidc("good-token", "").send(&emulator).await.status,
        Some(200)
    );
    emulator.register_role("acs:ram::1234567890123456:role/other");
    let reply = with_oidc("good-token", "").send(&emulator).await;
    assert_eq!(reply.error(), (404, "EntityNotExist.Role".to_owned()));
}

#[tokio::test]
async fn everything_may_be_in_the_query_of_a_get() {
    let emulator = start();
    let target = format!(
        "/?Action=AssumeRoleWithOIDC&Version=2015-04-01&Format=JSON&Timestamp={}\
         &RoleArn={ROLE}&OIDCProviderArn={PROVIDER}&OIDCToken=abcd&RoleSessionName=x1",
        date(SystemTime::now())
    );
    let reply = Outgoing::new("GET", &target).send(&emulator).await;
    assert_eq!(reply.status, Some(200), "{}", reply.text());
}

#[tokio::test]
async fn a_wish_that_is_wrongly_formed_is_refused_by_name() {
    let emulator = start();
    for (extra, code) in [
        ("&DurationSeconds=899", "InvalidParameter.DurationSeconds"),
        ("&DurationSeconds=x", "InvalidParameter.DurationSeconds"),
    ] {
        assert_eq!(
            with_oidc("abcd", extra).send(&emulator).await.error().1,
            code
        );
    }
    let too_short = with_oidc("abc", "").send(&emulator).await;
    assert_eq!(too_short.error().1, "AuthenticationFail.OIDCToken.Invalid");
    for (from, to, code) in [
        ("role%2Fdemo", "user%2Fdemo", "InvalidParameter.RoleArn"),
        ("kms-agent", "k", "InvalidParameter.RoleSessionName"),
        ("kms-agent", "a%20b", "InvalidParameter.RoleSessionName"),
        ("oidc-provider", "oidc", "InvalidParameter.OIDCProviderArn"),
        ("OIDCToken=abcd", "OIDCToken=", "MissingOIDCToken"),
        ("RoleArn=", "NoRoleArn=", "MissingRoleArn"),
    ] {
        let mut request = with_oidc("abcd", "");
        request.body = request.body.replace(from, to);
        assert_eq!(
            request.send(&emulator).await.error(),
            (400, code.to_owned())
        );
    }
}

#[tokio::test]
async fn assume_role_is_signed_over_its_form_body() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a", "v")).unwrap();
    let body = format!("RoleArn={ROLE}&RoleSessionName=kms-agent&DurationSeconds=3600");
    let reply = assume_role(&emulator, &body).await;
    let answer = reply.json();
    assert!(answer["OIDCTokenInfo"].is_null());
    let credentials = &answer["Credentials"];
    assert_eq!(signer(credentials).send(&emulator).await.status, Some(200));
    assert_eq!(emulator.count_calls(Action::AssumeRole), 1);

    let unsigned = format!("/?Action=AssumeRole&Version=2015-04-01&Format=JSON&{body}");
    let reply = Outgoing::new("POST", &unsigned).send(&emulator).await;
    assert_eq!(reply.error(), (400, "IncompleteSignature".to_owned()));
}

#[tokio::test]
async fn a_set_lifetime_wins_over_the_one_asked_for() {
    let emulator = start();
    emulator.set_session_lifetime(Some(Duration::from_secs(2)));
    let body = with_oidc("abcd", "&DurationSeconds=3600")
        .send(&emulator)
        .await
        .json();
    let expiration = body["Credentials"]["Expiration"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(expiration < date(SystemTime::now() + Duration::from_mins(10)));
    assert!(emulator.issue_session().expires_at() < SystemTime::now() + Duration::from_mins(10));
}
