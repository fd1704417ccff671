//! Requests of Vault clients, under response type 2 and others.

use kms_agent_test_support::TOKEN;
use kms_agent_test_support::http::Reply;

use super::{assert_json_headers, send, speaking};
use crate::harness::cloud::Cloud;

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
