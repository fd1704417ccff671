//! Errors in the dialect of the response type.

use kms_agent_emulator::{Fault, FaultKind};
use kms_agent_test_support::TOKEN;
use kms_agent_test_support::http::Reply;

use super::{PATH_ROUTE, QUERY_ROUTE, answers, assert_json_headers, send, speaking};
use crate::harness::cloud::Cloud;

/// Status, code, and message as escaped in JSON.
#[derive(Clone, Copy)]
struct Error(u16, &'static str, &'static str);

const BAD_TOKEN: Error = Error(
    403,
    "InvalidToken",
    "Send the agent's token, once, in the header x-kms-token or x-vault-token.",
);
const FORWARDED: Error = Error(
    400,
    "ForwardedRequest",
    "The header via says that this request was forwarded; ask the agent directly, not through a proxy.",
);
const USE_GET: Error = Error(405, "MethodNotAllowed", "Use GET.");
const USE_GET_OR_HEAD: Error = Error(405, "MethodNotAllowed", "Use GET or HEAD.");
const UNKNOWN_PATH: Error = Error(
    404,
    "UnknownPath",
    "There is /secretsmanager/get?secretId=<id>, /v1/<id>, /agent/watch?secretId=<id>, /agent/batch?secretId=<id>, /agent/status, /agent/purge, /ping, /livez, /readyz and /metrics.",
);

/// Errors of KMS, by secret.
const KMS_ERRORS: [(&str, Error); 4] = [
    (
        "missing",
        Error(
            404,
            "Forbidden.ResourceNotFound",
            r#"Not \"found\": \\ü密."#,
        ),
    ),
    ("denied", Error(403, "Forbidden.NoPermission", "Forbidden.")),
    ("disabled", Error(409, "Rejected.Disabled", "Disabled.")),
    ("broken", Error(500, "InternalFailure", "Internal Failure")),
];

/// Errors of the agent about requests and about KMS.
const OWN_ERRORS: [(&str, Error); 8] = [
    (
        "/secretsmanager/get",
        Error(
            400,
            "MissingParameter",
            "Name the secret: ?secretId=<name or ARN>.",
        ),
    ),
    (
        "/v1/",
        Error(
            400,
            "MissingParameter",
            "Name the secret after the path prefix.",
        ),
    ),
    (
        "/secretsmanager/get?secretId=s&x=1",
        Error(
            400,
            "InvalidParameter",
            "Unknown parameter x; there are secretId, versionId, versionStage, refreshNow, field, format.",
        ),
    ),
    (
        "/v1/s?versionId=1&versionId=1",
        Error(
            400,
            "InvalidParameter",
            "The parameter versionId is given twice; send it once.",
        ),
    ),
    (
        "/secretsmanager/get?secretId=acs:kms:cn-beijing:1:secret/s",
        Error(
            400,
            "InvalidParameter",
            "The ARN is of another region than the agent's, which is cn-hangzhou.",
        ),
    ),
    ("/secretsmanager/get?secretId=garbage", NOT_KMS),
    ("/v1/garbage", NOT_KMS),
    (
        "/v1/cut",
        Error(
            503,
            "KmsUnavailable",
            "KMS could not be reached and no copy may be served; the agent's log says why (network, KMS.Endpoint, KMS.CaFile).",
        ),
    ),
];
const NOT_KMS: Error = Error(
    502,
    "InvalidUpstreamAnswer",
    "The response is not from KMS; check the agent's KMS.Endpoint and any proxy in between.",
);

#[test]
fn on_both_secret_routes_errors_speak_the_dialect_of_the_response_type() {
    let cloud = Cloud::start();
    for (name, Error(status, code, message)) in KMS_ERRORS {
        let body = format!(
            r#"{{"HttpStatus":{status},"Code":"{code}","Message":"{message}","RequestId":"r-1"}}"#
        );
        answers(&cloud, name, status, &body);
    }
    for (name, kind) in [("garbage", FaultKind::Garbage), ("cut", FaultKind::Cut)] {
        cloud.fault(Fault::new(kind).on_secret(name)).unwrap();
    }
    let token = format!("X-KMS-Token: {TOKEN}\r\n");
    let forwarded = format!("{token}Via: 1.1 proxy\r\n");
    for response_type in 0..3 {
        let agent = speaking(&cloud, response_type);
        for route in [QUERY_ROUTE, PATH_ROUTE] {
            for (name, error) in KMS_ERRORS {
                let reply = send(&agent, &format!("GET {route}{name}"), &token);
                check(&reply, response_type, error, Some("r-1"));
            }
            for (method, headers, error) in [
                ("GET", "", BAD_TOKEN),
                ("GET", "X-Vault-Token: wrong\r\n", BAD_TOKEN),
                ("POST", "", BAD_TOKEN),
                ("GET", &forwarded, FORWARDED),
                ("POST", &token, USE_GET),
                ("DELETE", &token, USE_GET),
                ("OPTIONS", &token, USE_GET),
                ("BREW", &token, USE_GET),
            ] {
                let reply = send(&agent, &format!("{method} {route}s"), headers);
                check(&reply, response_type, error, None);
            }
        }
        for (target, error) in OWN_ERRORS {
            let reply = send(&agent, &format!("GET {target}"), &token);
            check(&reply, response_type, error, None);
        }
    }
}

#[test]
fn everywhere_else_errors_speak_as_kms_does() {
    let cloud = Cloud::start();
    let token = format!("X-KMS-Token: {TOKEN}\r\n");
    let forwarded = format!("{token}Via: 1.1 proxy\r\n");
    for response_type in 0..3 {
        let agent = speaking(&cloud, response_type);
        for path in ["/", "/nothing", "/v1", "/v1x", "/secretsmanager/get/"] {
            for (headers, error) in [
                ("", BAD_TOKEN),
                (&forwarded, FORWARDED),
                (&token, UNKNOWN_PATH),
            ] {
                check(
                    &send(&agent, &format!("GET {path}"), headers),
                    0,
                    error,
                    None,
                );
            }
        }
        for path in ["/ping", "/livez", "/readyz", "/metrics"] {
            check(
                &send(&agent, &format!("POST {path}"), ""),
                0,
                USE_GET_OR_HEAD,
                None,
            );
            check(
                &send(&agent, &format!("GET {path}"), &forwarded),
                0,
                FORWARDED,
                None,
            );
        }
    }
}

/// Returns the expected body of an error in a response type.
fn dialect(response_type: usize, error: Error, request_id: Option<&str>) -> String {
    let Error(_, code, message) = error;
    match (response_type, request_id) {
        (0, None) => format!(r#"{{"Code":"{code}","Message":"{message}"}}"#),
        (0, Some(id)) => {
            format!(r#"{{"Code":"{code}","Message":"{message}","RequestId":"{id}"}}"#)
        }
        (1, _) => format!(r#"{{"__type":"{code}","message":"{message}"}}"#),
        _ => format!(r#"{{"errors":["{code}: {message}"]}}"#),
    }
}

fn check(reply: &Reply, response_type: usize, error: Error, request_id: Option<&str>) {
    assert_eq!(reply.text(), dialect(response_type, error, request_id));
    assert_eq!(reply.status, error.0, "{}", error.1);
    assert_json_headers(reply);
    assert_eq!(reply.header("cache-status"), None);
    let allowed = if error.2 == USE_GET_OR_HEAD.2 {
        "GET, HEAD"
    } else {
        "GET"
    };
    assert_eq!(
        reply.header("allow"),
        (reply.status == 405).then_some(allowed)
    );
}

/// Request lines that the parser refuses, such as curl's when a placeholder is left in the id.
const UNREADABLE: [(&str, u16, &str); 5] = [
    (
        "GET /secretsmanager/get?secretId=<SecretId>",
        400,
        "InvalidRequest",
    ),
    (
        "GET /secretsmanager/get?secretId=\"s\"",
        400,
        "InvalidRequest",
    ),
    ("GET /v1/a name", 400, "InvalidRequest"),
    ("GET v1/s", 400, "InvalidRequest"),
    ("G\u{1}T /v1/s", 400, "InvalidRequest"),
];

#[test]
fn what_the_parser_refuses_is_told_in_the_dialect_and_counted_in_the_log() {
    let cloud = Cloud::start();
    let token = format!("X-KMS-Token: {TOKEN}\r\n");
    for response_type in 0..3 {
        let agent = speaking(&cloud, response_type);
        for (line, status, code) in UNREADABLE {
            let reply = send(&agent, line, &token);
            assert_eq!(reply.status, status, "{line}");
            assert_json_headers(&reply);
            assert_eq!(reply.header("connection"), Some("close"), "{line}");
            let body = reply.json();
            let message = match response_type {
                0 => {
                    assert_eq!(body["Code"], code, "{line}");
                    body["Message"].as_str()
                }
                1 => {
                    assert_eq!(body["__type"], code, "{line}");
                    body["message"].as_str()
                }
                _ => body["errors"][0].as_str(),
            };
            assert!(
                message.unwrap().contains("percent-encode"),
                "{line}: {body}"
            );
        }
        let many = "X: y\r\n".repeat(200);
        let reply = send(&agent, "GET /v1/s", &format!("{token}{many}"));
        assert_eq!(reply.status, 431);
        assert!(reply.text().contains("100 headers"), "{}", reply.text());
        let (_, log) = agent.stop();
        assert!(
            log.contains("Requests were refused") && log.contains("code=\"InvalidRequest\""),
            "{log}"
        );
        assert!(log.contains("code=\"HeadersTooLarge\""), "{log}");
    }
}
