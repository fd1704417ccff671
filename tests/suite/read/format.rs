//! What the secret routes say in each `ResponseType`, body for body.

use kms_agent_emulator::{Fault, FaultKind};
use kms_agent_test_support::http::{self, Reply};
use kms_agent_test_support::{Setup, TOKEN, TestAgent};

use crate::harness::cloud::{BINARY, Cloud};

const QUERY_ROUTE: &str = "/secretsmanager/get?secretId=";
const PATH_ROUTE: &str = "/v1/";

/// What KMS answers, and what becomes of it in the response types 1 and 2. In type 0 nothing does.
struct Golden {
    name: &'static str,
    kms: &'static str,
    aws: &'static str,
    vault: &'static str,
}

const GOLDEN: [Golden; 9] = [
    Golden {
        name: "text",
        kms: r#"{"RequestId":"r-1","SecretName":"text","SecretType":"Generic","SecretDataType":"text","SecretData":"p\u00e4ss\/\"w\\ö\n密码 \ud83d\ude00","VersionId":"v1","VersionStages":{"VersionStage":["ACSCurrent"]},"CreateTime":"2026-01-02T03:04:05Z"}"#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/text","Name":"text","VersionId":"v1","SecretString":"p\u00e4ss\/\"w\\ö\n密码 \ud83d\ude00","VersionStages":["AWSCURRENT"],"CreatedDate":1767323045}"#,
        vault: r#"{"request_id":"r-1","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"value":"p\u00e4ss\/\"w\\ö\n密码 \ud83d\ude00"},"metadata":{"created_time":"2026-01-02T03:04:05Z","custom_metadata":{"secret_name":"text","secret_type":"Generic","version_id":"v1","version_stages":"ACSCurrent"},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
    // Base64 of the bytes of SecretData, which KMS does not promise to be base64 itself.
    Golden {
        name: "binary",
        kms: r#"{"RequestId":"r-2","SecretName":"binary","SecretType":"Generic","SecretDataType":"binary","SecretData":"AP8Q\u00e9\/","VersionId":"v1","VersionStages":{"VersionStage":["ACSCurrent"]},"CreateTime":"2026-01-02T03:04:05Z"}"#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/binary","Name":"binary","VersionId":"v1","SecretBinary":"QVA4UcOpLw==","VersionStages":["AWSCURRENT"],"CreatedDate":1767323045}"#,
        vault: r#"{"request_id":"r-2","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"value":"AP8Q\u00e9\/"},"metadata":{"created_time":"2026-01-02T03:04:05Z","custom_metadata":{"secret_name":"binary","secret_type":"Generic","version_id":"v1","version_stages":"ACSCurrent"},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
    // Spaces, number formats and repeated members of the value stay as its owner wrote them.
    Golden {
        name: "object",
        kms: r#"{"RequestId":"r-3","SecretName":"object","SecretType":"Generic","SecretDataType":"text","SecretData":" {\"user\": \"\u00fc\\n\\u00e9\", \"n\": [1.0, 12345678901234567890123, 1e400], \"n\": null}\n","VersionId":"v1","VersionStages":{"VersionStage":["ACSCurrent"]},"CreateTime":"2026-01-02T03:04:05Z"}"#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/object","Name":"object","VersionId":"v1","SecretString":" {\"user\": \"\u00fc\\n\\u00e9\", \"n\": [1.0, 12345678901234567890123, 1e400], \"n\": null}\n","VersionStages":["AWSCURRENT"],"CreatedDate":1767323045}"#,
        vault: r#"{"request_id":"r-3","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"user": "ü\n\u00e9", "n": [1.0, 12345678901234567890123, 1e400], "n": null},"metadata":{"created_time":"2026-01-02T03:04:05Z","custom_metadata":{"secret_name":"object","secret_type":"Generic","version_id":"v1","version_stages":"ACSCurrent"},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
    Golden {
        name: "array",
        kms: r#"{"RequestId":"r-4","SecretName":"array","SecretType":"Generic","SecretDataType":"text","SecretData":"[{\"a\":1}]","VersionId":"v1","VersionStages":{"VersionStage":["ACSCurrent"]},"CreateTime":"2026-01-02T03:04:05Z"}"#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/array","Name":"array","VersionId":"v1","SecretString":"[{\"a\":1}]","VersionStages":["AWSCURRENT"],"CreatedDate":1767323045}"#,
        vault: r#"{"request_id":"r-4","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"value":"[{\"a\":1}]"},"metadata":{"created_time":"2026-01-02T03:04:05Z","custom_metadata":{"secret_name":"array","secret_type":"Generic","version_id":"v1","version_stages":"ACSCurrent"},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
    Golden {
        name: "string",
        kms: r#"{"RequestId":"r-5","SecretName":"string","SecretType":"Generic","SecretDataType":"text","SecretData":"\"{}\"","VersionId":"v1","VersionStages":{"VersionStage":["ACSCurrent"]},"CreateTime":"2026-01-02T03:04:05Z"}"#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/string","Name":"string","VersionId":"v1","SecretString":"\"{}\"","VersionStages":["AWSCURRENT"],"CreatedDate":1767323045}"#,
        vault: r#"{"request_id":"r-5","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"value":"\"{}\""},"metadata":{"created_time":"2026-01-02T03:04:05Z","custom_metadata":{"secret_name":"string","secret_type":"Generic","version_id":"v1","version_stages":"ACSCurrent"},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
    Golden {
        name: "half",
        kms: r#"{"RequestId":"r-6","SecretName":"half","SecretType":"Generic","SecretDataType":"text","SecretData":"{\"a\":1} and more","VersionId":"v1","VersionStages":{"VersionStage":["ACSCurrent"]},"CreateTime":"2026-01-02T03:04:05Z"}"#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/half","Name":"half","VersionId":"v1","SecretString":"{\"a\":1} and more","VersionStages":["AWSCURRENT"],"CreatedDate":1767323045}"#,
        vault: r#"{"request_id":"r-6","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"value":"{\"a\":1} and more"},"metadata":{"created_time":"2026-01-02T03:04:05Z","custom_metadata":{"secret_name":"half","secret_type":"Generic","version_id":"v1","version_stages":"ACSCurrent"},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
    Golden {
        name: "empty",
        kms: r#"{"RequestId":"r-7","SecretName":"empty","SecretType":"Generic","SecretDataType":"text","SecretData":"","VersionId":"v1","VersionStages":{"VersionStage":["ACSCurrent"]},"CreateTime":"2026-01-02T03:04:05Z"}"#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/empty","Name":"empty","VersionId":"v1","SecretString":"","VersionStages":["AWSCURRENT"],"CreatedDate":1767323045}"#,
        vault: r#"{"request_id":"r-7","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"value":""},"metadata":{"created_time":"2026-01-02T03:04:05Z","custom_metadata":{"secret_name":"empty","secret_type":"Generic","version_id":"v1","version_stages":"ACSCurrent"},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
    // Several stages, one of its owner's own; a managed secret; a member that nobody knows yet; white space.
    Golden {
        name: "managed",
        kms: r#" { "SecretName":"managed","SecretType":"Rds","SecretDataType":"text","SecretData":"{\"AccountName\":\"a\",\"AccountPassword\":\"p\"}","VersionId":"v\u0032","VersionStages":{"VersionStage":["ACSCurrent","bl\u00fce","ACSPrevious"]},"CreateTime":"1969-12-31T23:59:58Z","AutomaticRotation":"Enabled","RotationInterval":"604800s","NextRotationDate":"2020-01-01T00:00:00Z","Novelty":[1,{"a":null}],"RequestId":"r-8" } "#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/managed","Name":"managed","VersionId":"v2","SecretString":"{\"AccountName\":\"a\",\"AccountPassword\":\"p\"}","VersionStages":["AWSCURRENT","blüe","AWSPREVIOUS"],"CreatedDate":-2}"#,
        vault: r#"{"request_id":"r-8","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"AccountName":"a","AccountPassword":"p"},"metadata":{"created_time":"1969-12-31T23:59:58Z","custom_metadata":{"secret_name":"managed","secret_type":"Rds","version_id":"v2","version_stages":"ACSCurrent,blüe,ACSPrevious"},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
    // No more than a GetSecretValue answer must have.
    Golden {
        name: "bare",
        kms: r#"{"SecretName":"bare","SecretData":"x","VersionId":"v1"}"#,
        aws: r#"{"ARN":"acs:kms:cn-hangzhou::secret/bare","Name":"bare","VersionId":"v1","SecretString":"x","VersionStages":[],"CreatedDate":0}"#,
        vault: r#"{"request_id":"","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"value":"x"},"metadata":{"created_time":"","custom_metadata":{"secret_name":"bare","version_id":"v1","version_stages":""},"deletion_time":"","destroyed":false,"version":1}},"wrap_info":null,"warnings":null,"auth":null}"#,
    },
];

/// An agent that answers in this response type.
fn speaking(cloud: &Cloud, response_type: usize) -> TestAgent {
    let key = cloud.access_key();
    Setup::new(BINARY)
        .config(format!(
            "[Server]\nHttpPort = 0\nResponseType = {response_type}\n[Log]\nLogPath = \"\"\n"
        ))
        .kms(cloud.base_url(), key.id(), key.expose_secret())
        .and_config("MaxAttempts = 1\n[Cache]\nNegativeTtlSeconds = 0\n")
        .start()
}

/// KMS answers this body, whatever the status, when asked for this secret.
fn answers(cloud: &Cloud, name: &str, status: u16, body: &str) {
    let mut fault = Fault::new(FaultKind::Garbage).on_secret(name).body(body);
    fault.status = Some(status);
    cloud.fault(fault).unwrap();
}

fn assert_json_headers(reply: &Reply) {
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
}

#[test]
fn a_secret_is_told_in_three_formats_fetched_or_cached_by_query_or_by_path() {
    let cloud = Cloud::start();
    for golden in &GOLDEN {
        answers(&cloud, golden.name, 200, golden.kms);
    }
    for response_type in 0..3 {
        let agent = speaking(&cloud, response_type);
        for golden in &GOLDEN {
            let expected = [golden.kms, golden.aws, golden.vault][response_type];
            for (route, cached) in [
                (QUERY_ROUTE, false),
                (QUERY_ROUTE, true),
                (PATH_ROUTE, true),
            ] {
                let reply = agent.get(&format!("{route}{}", golden.name));
                assert_eq!(reply.status, 200, "{}", reply.text());
                assert_eq!(reply.text(), expected, "ResponseType {response_type}");
                assert_json_headers(&reply);
                let status = reply.header("cache-status").unwrap();
                assert_eq!(status.starts_with("kms-agent; hit;"), cached, "{status}");
                assert!(reply.header("age").is_some());
            }
        }
    }
}

#[test]
fn an_arn_is_told_as_it_was_asked_for_and_an_unknown_region_is_left_empty() {
    let cloud = Cloud::start();
    cloud.put("app/db", "value");
    let arn = format!("acs:kms:cn-hangzhou:{}:secret/app/db", cloud.account_id());
    let told = |agent: &TestAgent, id: &str| {
        let reply = agent.read(id);
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["Name"], "app/db");
        reply.json()["ARN"].as_str().unwrap().to_owned()
    };
    let agent = speaking(&cloud, 1);
    assert_eq!(told(&agent, &arn), arn);
    assert_eq!(told(&agent, "app/db"), "acs:kms:cn-hangzhou::secret/app/db");

    let key = cloud.access_key();
    let nowhere = Setup::new(BINARY)
        .config(format!(
            "[Server]\nHttpPort = 0\nResponseType = 1\n[KMS]\nEndpoint = \"{}\"\n[Log]\nLogPath = \"\"\n",
            cloud.base_url()
        ))
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", key.id())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", key.expose_secret())
        .start();
    assert_eq!(told(&nowhere, "app/db"), "acs:kms:::secret/app/db");
}

#[test]
fn the_way_vault_asks_is_understood_in_response_type_2_only() {
    let cloud = Cloud::start();
    cloud.put("app/db", "value");
    cloud.put("secret/data/app/db", "a secret of that very name");
    let value = |reply: &Reply| {
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["data"]["data"]["value"].clone()
    };
    let agent = speaking(&cloud, 2);
    for target in [
        "/v1/secret/data/app/db",
        "/v1/secret/data/app%2Fdb?version=0",
        "/v1/app/db?version=1",
        "/v1/secret/data/app/db?version=1&versionStage=AWSCURRENT",
    ] {
        assert_eq!(value(&agent.get(target)), "value", "{target}");
    }
    assert_eq!(
        value(&agent.read("secret/data/app/db")),
        "a secret of that very name"
    );
    for target in ["/v1/secret/data/app/db?version=2", "/v1/secret/data/"] {
        assert_eq!(agent.get(target).status, 400, "{target}");
    }

    let plain = speaking(&cloud, 0);
    assert_eq!(
        plain.get("/v1/secret/data/app/db").json()["SecretData"],
        "a secret of that very name"
    );
    assert_eq!(plain.get("/v1/app/db?version=1").status, 400);
}

/// An error as it should be told in a response type.
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

/// Sends `line` with these headers.
fn send(agent: &TestAgent, line: &str, headers: &str) -> Reply {
    let port = agent.port();
    let request = format!("{line} HTTP/1.1\r\nHost: localhost:{port}\r\n{headers}\r\n");
    http::send(port, request.as_bytes()).unwrap()
}

/// Status, code and message as JSON has it.
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
    "There is /secretsmanager/get?secretId=<id>, /v1/<id>, /agent/status, /agent/purge, /ping, /livez, /readyz and /metrics.",
);

/// What KMS says of a secret.
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

/// What the agent says of a question, or of KMS.
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
            "Unknown parameter x; there are secretId, versionId, versionStage, refreshNow.",
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
    "What answered is not KMS; check the agent's KMS.Endpoint and any proxy in between.",
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

/// Request lines that the parser refuses, such as those that curl sends when a placeholder is left in the id.
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

#[test]
fn what_vault_clients_ask_first_is_answered_without_kms_under_response_type_2_only() {
    let cloud = Cloud::start();
    cloud.put("sys/health", "a secret");
    let token = format!("X-Vault-Token: {TOKEN}\r\n");
    let paths = [
        ("auth/token/lookup-self", "/data/policies/0", "default"),
        ("sys/health", "/replication_dr_mode", "disabled"),
        (
            "sys/health?standbyok=true",
            "/replication_dr_mode",
            "disabled",
        ),
        ("sys/seal-status", "/type", "shamir"),
        (
            "sys/internal/ui/mounts/secret",
            "/data/options/version",
            "2",
        ),
        ("sys/internal/ui/mounts/secret/", "/data/path", "secret/"),
        ("sys/internal/ui/mounts/secret/app/db", "/data/type", "kv"),
        ("sys/internal/ui/mounts", "/data/secret/secret~1/type", "kv"),
    ];
    let agent = speaking(&cloud, 2);
    for (path, pointer, expected) in paths {
        let reply = send(&agent, &format!("GET /v1/{path}"), &token);
        assert_eq!(reply.status, 200, "{path}");
        assert_json_headers(&reply);
        let body = reply.json();
        assert_eq!(body.pointer(pointer).unwrap(), expected, "{path}: {body}");
        assert!(!reply.text().contains(TOKEN), "{path}");
        for headers in ["", "X-Vault-Token: wrong\r\n"] {
            let reply = send(&agent, &format!("GET /v1/{path}"), headers);
            assert_eq!(reply.status, 403, "{path}");
        }
        for method in ["POST", "PUT"] {
            let reply = send(&agent, &format!("{method} /v1/{path}"), &token);
            assert_eq!(reply.status, 405, "{method} {path}");
        }
    }
    for (line, status) in [
        ("GET /v1/sys/internal/ui/mounts/kv", 404),
        ("GET /v1/sys/internal/ui/mounts/secrets", 404),
        ("LIST /v1/secret/metadata/app", 404),
        ("LIST /v1/secret/app", 404),
    ] {
        let reply = send(&agent, line, &token);
        assert_eq!(reply.status, status, "{line}");
        let text = reply.text();
        assert!(
            text.starts_with(r#"{"errors":["UnknownPath: "#),
            "{line}: {text}"
        );
    }
    assert_eq!(cloud.reads(), 0, "KMS is not asked");
    let reply = send(&agent, "GET /v1/secret/data/sys/health", &token);
    assert_eq!(reply.json()["data"]["data"]["value"], "a secret");
    for response_type in [0, 1] {
        let agent = speaking(&cloud, response_type);
        let reply = send(&agent, "GET /v1/sys/health", &token);
        assert!(reply.text().contains("a secret"), "{}", reply.text());
        let reply = send(&agent, "GET /v1/auth/token/lookup-self", &token);
        assert!(
            reply.text().contains("Forbidden.ResourceNotFound"),
            "{}",
            reply.text()
        );
        let reply = send(&agent, "LIST /v1/secret/app", &token);
        assert_eq!(reply.status, 405);
    }
}

#[test]
fn metrics_come_in_the_format_that_the_client_accepts() {
    let cloud = Cloud::start();
    let agent = speaking(&cloud, 0);
    for (accept, kind, counter) in [
        (
            "",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# TYPE kms_agent_requests counter\n",
        ),
        (
            "Accept: */*\r\n",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# EOF\n",
        ),
        (
            "Accept: text/plain;version=0.0.4;q=1,*/*;q=0.1\r\n",
            "text/plain; version=0.0.4; charset=utf-8",
            "# TYPE kms_agent_requests_total counter\n",
        ),
    ] {
        let reply = send(&agent, "GET /metrics", accept);
        assert_eq!(reply.header("content-type"), Some(kind), "{accept}");
        assert!(reply.text().contains(counter), "{accept}");
        assert_eq!(
            reply.text().contains("# EOF"),
            kind.starts_with("application")
        );
    }
}
