//! Parameters `field` and `format`, in each response type and by every form of path.

use super::{answers, speaking};
use crate::harness::cloud::Cloud;

/// Starts of the requests, and whether a query has begun.
const STARTS: [(&str, char); 3] = [
    ("/secretsmanager/get?secretId=", '&'),
    ("/v1/", '?'),
    ("/v1/secret/data/", '?'),
];

const OBJECT: &str = r#"{"user":"\u00fc\n\"x","n":1.10,"big":12345678901234567890123,"a":{"b":[true,{"c":"d"}]},"a.b":"dots"}"#;

#[test]
fn the_bare_value_and_a_bare_member_are_exact_in_every_response_type() {
    let cloud = Cloud::start();
    for prefix in ["", "secret/data/"] {
        cloud.put(&format!("{prefix}object"), OBJECT);
        cloud.put(&format!("{prefix}text"), "välue\n\"quoted\"\\ 密码");
        cloud.put(&format!("{prefix}empty"), "");
        let binary = kms_agent_emulator::PutSecret::new(format!("{prefix}binary"), "AP8=").binary();
        cloud.put_secret(binary).unwrap();
    }
    for response_type in 0..3 {
        let agent = speaking(&cloud, response_type);
        for (start, mark) in STARTS {
            for (name, part, expected) in [
                ("object", "format=value", OBJECT),
                ("text", "format=value", "välue\n\"quoted\"\\ 密码"),
                ("empty", "format=value", ""),
                ("object", "format=value&field=user", "ü\n\"x"),
                ("object", "field=n&format=value", "1.10"),
                (
                    "object",
                    "field=big&format=value",
                    "12345678901234567890123",
                ),
                (
                    "object",
                    "field=a&format=value",
                    r#"{"b":[true,{"c":"d"}]}"#,
                ),
                ("object", "field=a.b&format=value", "dots"),
                ("object", "field=a%2Eb&format=value", "dots"),
                ("object", "field=a.b.1.c&format=value", "d"),
            ] {
                let target = format!("{start}{name}{mark}{part}");
                let reply = agent.get(&target);
                assert_eq!((reply.status, reply.text()), (200, expected), "{target}");
                let kind = reply.header("content-type");
                assert_eq!(kind, Some("text/plain; charset=utf-8"), "{target}");
                for (header, value) in [
                    ("cache-control", "no-store"),
                    ("x-content-type-options", "nosniff"),
                ] {
                    assert_eq!(reply.header(header), Some(value), "{target}");
                }
                assert!(reply.header("cache-status").is_some(), "{target}");
                assert!(reply.header("age").is_some(), "{target}");
            }
            let reply = agent.get(&format!("{start}binary{mark}format=value"));
            assert_eq!((reply.status, reply.text()), (200, "AP8="));
            let kind = reply.header("content-type");
            assert_eq!(kind, Some("application/octet-stream"));
        }
    }
}

#[test]
fn a_member_takes_the_place_of_the_value_in_every_response_type() {
    let cloud = Cloud::start();
    let kms = r#"{"RequestId":"r","SecretName":"s","SecretDataType":"text","SecretData":"{\"a\":\"x\\n\",\"o\":{\"k\": 1.0}}","VersionId":"v1","VersionStages":{"VersionStage":["ACSCurrent"]},"CreateTime":"2026-01-02T03:04:05Z","New":[1e400]}"#;
    answers(&cloud, "s", 200, kms);
    let [plain, aws, vault] = [0, 1, 2].map(|response_type| speaking(&cloud, response_type));
    let whole = kms.split_once(r#""{\"a\":"#).unwrap().0;
    let rest = kms.split_once(r#"}}","VersionId""#).unwrap().1;
    for (field, quoted) in [("a", r#""x\n""#), ("o", r#""{\"k\": 1.0}""#)] {
        let reply = plain.read(&format!("s&field={field}"));
        assert_eq!(
            reply.text(),
            format!(r#"{whole}{quoted},"VersionId"{rest}"#)
        );
        let reply = aws.read(&format!("s&field={field}"));
        assert!(
            reply
                .text()
                .contains(&format!(r#""SecretString":{quoted},"#)),
            "{reply:?}"
        );
    }
    assert_eq!(
        vault.read("s&field=a").json()["data"]["data"]["value"],
        "x\n"
    );
    let object = vault.read("s&field=o");
    assert!(object.text().contains(r#""data":{"k": 1.0}"#), "{object:?}");
}

#[test]
fn what_cannot_be_picked_keeps_the_error_form() {
    let cloud = Cloud::start();
    for prefix in ["", "secret/data/"] {
        cloud.put(&format!("{prefix}object"), r#"{"secret":{"a":1}}"#);
        cloud.put(&format!("{prefix}text"), "plain secret");
        cloud.put(&format!("{prefix}list"), r#"["secret"]"#);
    }
    for response_type in 0..3 {
        let agent = speaking(&cloud, response_type);
        for (start, mark) in STARTS {
            for (name, part, status, code) in [
                ("object", "field=b", 404, "FieldNotFound"),
                (
                    "object",
                    "field=secret.b&format=value",
                    404,
                    "FieldNotFound",
                ),
                ("object", "field=secret.a.b", 404, "FieldNotFound"),
                ("text", "field=a&format=value", 400, "InvalidParameter"),
                ("list", "field=0", 400, "InvalidParameter"),
                ("object", "field=", 400, "InvalidParameter"),
                ("object", "format=json", 400, "InvalidParameter"),
                (
                    "object",
                    "format=value&format=value",
                    400,
                    "InvalidParameter",
                ),
                ("missing", "format=value", 404, "Forbidden.ResourceNotFound"),
            ] {
                let target = format!("{start}{name}{mark}{part}");
                let reply = agent.get(&target);
                assert_eq!(reply.status, status, "{target} {reply:?}");
                assert_eq!(reply.header("content-type"), Some("application/json"));
                assert!(reply.text().contains(code), "{target} {reply:?}");
                assert!(!reply.text().contains("plain secret"), "{reply:?}");
            }
        }
    }
}

#[test]
fn without_the_token_the_parameters_change_nothing() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = speaking(&cloud, 0);
    for part in ["format=value", "field=a", "format=x"] {
        let reply = super::send(&agent, &format!("GET /v1/s?{part}"), "");
        assert_eq!(reply.status, 403);
        assert_eq!(reply.json()["Code"], "InvalidToken");
    }
}
