use std::time::{Duration, SystemTime};

use kms_agent_emulator::{AccessKey, PutSecret};

use crate::client::{Signer, date, read, start};

#[tokio::test]
async fn a_wrong_secret_is_told_the_string_to_sign_and_no_more() {
    let emulator = start();
    let key = AccessKey::new(emulator.access_key().id(), "wrong");
    let reply = Signer::new(&key)
        .parameter("SecretName", "a")
        .send(&emulator)
        .await;
    assert_eq!(reply.error(), (400, "SignatureDoesNotMatch".to_owned()));
    let body = reply.json();
    for member in ["RequestId", "HostId", "Recommend"] {
        assert!(body[member].is_string(), "{body}");
    }
    assert!(
        body["Message"]
            .as_str()
            .unwrap()
            .contains("ACS3-HMAC-SHA256\n")
    );
    assert!(!reply.text().contains(emulator.access_key().expose_secret()));
}

#[tokio::test]
async fn a_changed_request_is_refused() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a", "v")).unwrap();
    let signer = Signer::new(emulator.access_key()).parameter("SecretName", "a");
    let request = signer.sign(emulator.endpoint());

    let mut other_name = request.clone();
    other_name.target = "/?SecretName=b".to_owned();
    let other_body = request.clone().body("x");
    let other_action = request.clone().header("x-acs-action", "AssumeRole");
    let other_action = other_action.header("x-acs-version", "2015-04-01");
    let other_host = request.clone().header("host", "localhost");
    for changed in [other_name, other_body, other_action, other_host] {
        let reply = changed.send(&emulator).await;
        assert_eq!(reply.error(), (400, "SignatureDoesNotMatch".to_owned()));
    }
    assert_eq!(request.send(&emulator).await.status, Some(200));
}

#[tokio::test]
async fn a_nonce_is_good_for_one_request() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a", "v")).unwrap();
    let signer = Signer::new(emulator.access_key()).parameter("SecretName", "a");
    let request = signer.sign(emulator.endpoint());
    assert_eq!(request.send(&emulator).await.status, Some(200));
    assert_eq!(
        request.send(&emulator).await.error(),
        (400, "SignatureNonceUsed".to_owned())
    );
}

#[tokio::test]
async fn a_date_is_good_for_a_quarter_of_an_hour_either_way() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a", "v")).unwrap();
    let now = SystemTime::now();
    let (near, far) = (Duration::from_mins(14), Duration::from_mins(16));
    for (at, good) in [
        (now - near, true),
        (now + near, true),
        (now - far, false),
        (now + far, false),
    ] {
        let mut signer = Signer::new(emulator.access_key()).parameter("SecretName", "a");
        signer.date = date(at);
        let reply = signer.send(&emulator).await;
        if good {
            assert_eq!(reply.status, Some(200));
        } else {
            assert_eq!(reply.error(), (400, "InvalidTimeStamp.Expired".to_owned()));
        }
    }
}

#[tokio::test]
async fn a_client_can_learn_the_services_time_from_the_date_header() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a", "v")).unwrap();
    emulator.set_clock_offset(40_000_000);
    let reply = read(&emulator, "a").await;
    assert_eq!(reply.error(), (400, "InvalidTimeStamp.Expired".to_owned()));
    let ahead = SystemTime::now() + Duration::from_secs(40_000_000);
    let text = date(ahead);
    let year = text.split('-').next().unwrap();
    assert!(reply.header("date").unwrap().contains(year));

    let mut signer = Signer::new(emulator.access_key()).parameter("SecretName", "a");
    signer.date = date(ahead);
    assert_eq!(signer.send(&emulator).await.status, Some(200));
}

#[tokio::test]
async fn a_date_of_another_form_is_refused() {
    let emulator = start();
    let mut signer = Signer::new(emulator.access_key()).parameter("SecretName", "a");
    signer.date = "yesterday".to_owned();
    let reply = signer.send(&emulator).await;
    assert_eq!(reply.error(), (400, "InvalidTimeStamp.Format".to_owned()));
}

#[tokio::test]
async fn a_signature_must_cover_host_and_all_of_the_services_headers() {
    let emulator = start();
    let mut signer = Signer::new(emulator.access_key()).parameter("SecretName", "a");
    signer.sign_host = false;
    let unsigned_host = signer.sign(emulator.endpoint());
    signer.sign_host = true;
    let unsigned_extra = signer.sign(emulator.endpoint()).header("x-acs-extra", "1");
    let mut absent = signer.sign(emulator.endpoint());
    absent.headers.retain(|(name, _)| name != "x-acs-version");
    absent.target.push_str("&Version=2016-01-20");
    let mut unsigned = signer.sign(emulator.endpoint());
    unsigned.headers.retain(|(name, _)| name != "authorization");
    for request in [unsigned_host, unsigned_extra, absent, unsigned] {
        let reply = request.send(&emulator).await;
        assert_eq!(reply.error(), (400, "IncompleteSignature".to_owned()));
    }
}

#[tokio::test]
async fn unknown_and_disabled_keys_are_told_apart() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a", "v")).unwrap();
    let key = emulator.issue_access_key();
    let signer = || Signer::new(&key).parameter("SecretName", "a");
    assert_eq!(signer().send(&emulator).await.status, Some(200));
    assert!(emulator.set_access_key_enabled(key.id(), false));
    let reply = signer().send(&emulator).await;
    assert_eq!(
        reply.error(),
        (400, "InvalidAccessKeyId.Inactive".to_owned())
    );
    assert!(emulator.revoke_access_key(key.id()));
    let reply = signer().send(&emulator).await;
    assert_eq!(
        reply.error(),
        (404, "InvalidAccessKeyId.NotFound".to_owned())
    );
}

#[tokio::test]
async fn a_temporary_key_needs_its_own_token_until_it_expires() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a", "v")).unwrap();
    let session = emulator.issue_session();
    let signer = || Signer::session(&session).parameter("SecretName", "a");
    assert_eq!(signer().send(&emulator).await.status, Some(200));

    let mut without = signer();
    without.token = None;
    let reply = without.send(&emulator).await;
    assert_eq!(reply.error(), (400, "MissingSecurityToken".to_owned()));

    let mut mismatch = signer();
    mismatch.token = Some("CAISother".to_owned());
    let mut surplus = Signer::new(emulator.access_key()).parameter("SecretName", "a");
    surplus.token = Some("CAISother".to_owned());
    for signer in [mismatch, surplus] {
        let (_, code) = signer.send(&emulator).await.error();
        assert_eq!(code, "InvalidSecurityToken.MismatchWithAccessKey");
    }

    emulator.set_clock_offset(3600);
    let mut late = signer();
    late.date = date(SystemTime::now() + Duration::from_hours(1));
    let reply = late.send(&emulator).await;
    assert_eq!(
        reply.error(),
        (400, "InvalidSecurityToken.Expired".to_owned())
    );
}

/// Request of the official Python SDK: form-style encoding on the wire, RFC 3986 in the signature, every
/// header signed, a form type on an empty body.
#[tokio::test]
async fn the_form_of_the_official_python_sdk_is_accepted() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a/b+c@d", "v")).unwrap();
    let mut signer = Signer::new(emulator.access_key())
        .parameter("FetchExtendedConfig", "True")
        .parameter("SecretName", "a/b+c@d")
        .parameter("Unused", "x y*");
    signer.headers = [
        ("accept", "application/json"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("user-agent", "AlibabaCloud (linux; x86_64) Python/3.12"),
        ("x-acs-credentials-provider", "default/env"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let mut request = signer.sign(emulator.endpoint());
    request.target = "/?FetchExtendedConfig=True&SecretName=a%2Fb%2Bc%40d&Unused=x+y%2A".to_owned();
    let reply = request.send(&emulator).await;
    assert_eq!(reply.status, Some(200), "{}", reply.text());
}

#[tokio::test]
async fn an_unknown_api_is_not_found_before_anything_is_checked() {
    let emulator = start();
    let mut signer = Signer::new(&AccessKey::new("nobody", "none"));
    signer.action = "DescribeSecret";
    let reply = signer.send(&emulator).await;
    assert_eq!(reply.error(), (404, "InvalidApi.NotFound".to_owned()));
    signer.action = "GetSecretValue";
    signer.version = "2015-04-01";
    let reply = signer.send(&emulator).await;
    assert_eq!(reply.error(), (404, "InvalidApi.NotFound".to_owned()));
}
