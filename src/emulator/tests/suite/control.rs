use kms_agent_emulator::{Action, Emulator, Options};
use serde_json::{Value, json};

use crate::client::{Outgoing, Received, read, start};

fn controlled() -> Emulator {
    Emulator::start(Options {
        control_api: true,
        ..Options::default()
    })
    .unwrap()
}

async fn order(emulator: &Emulator, order: Value) -> Received {
    let request = Outgoing::new("POST", "/_emulator").body(&order.to_string());
    request.send(emulator).await
}

#[tokio::test]
async fn orders_do_what_the_handle_does() {
    let emulator = controlled();
    let put = json!({"put_secret": {"name": "a", "value": "v", "version_id": "v1"}});
    assert_eq!(
        order(&emulator, put).await.json(),
        json!({"version_id": "v1"})
    );
    assert_eq!(read(&emulator, "a").await.json()["SecretData"], "v");

    let fault = json!({"fault": {
        "match": {"secret": "a", "action": "GetSecretValue"},
        "kind": "status", "status": 503, "code": "Oops", "latency_ms": 1, "times": 1,
    }});
    assert_eq!(order(&emulator, fault).await.json(), json!({"ok": true}));
    assert_eq!(read(&emulator, "a").await.error(), (503, "Oops".to_owned()));

    let calls = order(&emulator, json!({"calls": true})).await.json();
    let calls = calls["calls"].as_array().unwrap().clone();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[1]["action"], "GetSecretValue");
    assert_eq!(calls[1]["secret"], "a");
    assert_eq!(calls[1]["status"], 503);
    assert_eq!(calls[1]["code"], "Oops");
    assert_eq!(calls[1]["fault"], "status");
    assert_eq!(calls[1]["access_key_id"], emulator.access_key().id());

    let delete = json!({"delete_secret": {"name": "a"}});
    assert_eq!(
        order(&emulator, delete).await.json(),
        json!({"deleted": true})
    );
    assert_eq!(read(&emulator, "a").await.status, Some(404));

    let skew = json!({"clock_offset_seconds": -3600});
    order(&emulator, skew).await;
    assert_eq!(
        read(&emulator, "a").await.error().1,
        "InvalidTimeStamp.Expired"
    );
    order(&emulator, json!({"reset": true})).await;
    assert_eq!(emulator.count_calls(Action::GetSecretValue), 0);
    assert_eq!(
        read(&emulator, "a").await.error().1,
        "Forbidden.ResourceNotFound"
    );
}

#[tokio::test]
async fn every_other_order_is_accepted() {
    let emulator = controlled();
    for body in [
        json!({"deny_secret": {"name": "a"}}),
        json!({"secret_state": {"name": "a", "state": "key_disabled"}}),
        json!({"clear_faults": true}),
        json!({"access_key": {"id": "LTAIx", "secret": "s"}}),
        json!({"access_key": {"id": "LTAIx", "enabled": false}}),
        json!({"revoke_access_key": {"id": "LTAIx"}}),
        json!({"session_lifetime_seconds": 2}),
        json!({"session_lifetime_seconds": null}),
        json!({"metadata": {"role": null, "token_endpoint": "absent", "allow_v1": false}}),
        json!({"oidc_token": {"token": "abcd"}}),
        json!({"role": {"arn": "acs:ram::1:role/x"}}),
    ] {
        let reply = order(&emulator, body.clone()).await;
        assert_eq!(reply.status, Some(200), "{body}: {}", reply.text());
    }
}

#[tokio::test]
async fn an_order_that_makes_no_sense_is_refused_with_a_reason() {
    let emulator = controlled();
    for (body, reason) in [
        (json!({}), "expected"),
        (json!({"dance": true}), "unknown variant `dance`"),
        (
            json!({"put_secret": {"name": "a"}}),
            "missing field `value`",
        ),
        (
            json!({"put_secret": {"name": "a", "value": "v", "ttl": 1}}),
            "unknown field `ttl`",
        ),
        (
            json!({"put_secret": {"name": "a\nb", "value": "v"}}),
            "name must be",
        ),
        (
            json!({"fault": {"kind": "flood"}}),
            "unknown variant `flood`",
        ),
        (
            json!({"fault": {"kind": "latency"}}),
            "latency needs latency_ms",
        ),
        (
            json!({"fault": {"kind": "cut", "times": 0}}),
            "times must be",
        ),
        (json!({"reset": false}), "must be true"),
        (json!({"access_key": {"id": "none"}}), "no access key"),
    ] {
        let reply = order(&emulator, body.clone()).await;
        assert_eq!(reply.status, Some(400), "{body}");
        let text = reply.json()["error"].as_str().unwrap().to_owned();
        assert!(text.contains(reason), "{body}: {text}");
    }
}

#[tokio::test]
async fn a_web_page_can_order_nothing() {
    let emulator = controlled();
    let request = Outgoing::new("POST", "/_emulator")
        .header("origin", "https://example.com")
        .body(r#"{"reset":true}"#);
    assert_eq!(request.send(&emulator).await.status, Some(403));
}

#[tokio::test]
async fn without_the_control_api_its_path_is_like_any_other() {
    let emulator = start();
    let control = order(&emulator, json!({"reset": true})).await;
    let other = Outgoing::new("POST", "/elsewhere").send(&emulator).await;
    assert_eq!(control.error(), other.error());
    assert_eq!(control.status, Some(404));
}
