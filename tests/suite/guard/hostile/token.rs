//! The token, and answers without it.

use kms_agent_test_support::http::{self, Connection, Reply};
use kms_agent_test_support::{TOKEN, TestAgent};

use super::{Refused, Served, agent, expect, fill};
use crate::harness::cloud::Cloud;

#[test]
fn the_token_is_taken_whole_and_once_from_its_headers_only() {
    let (_cloud, agent) = agent();
    let refused = Refused(403, "InvalidToken");
    let upper = TOKEN.to_ascii_uppercase();
    let (short, _) = TOKEN.split_at(TOKEN.len() - 1);
    for (lines, expected) in [
        ("X-KMS-Token: TOKEN", Served),
        ("x-kms-token:TOKEN", Served),
        ("X-Vault-Token:   TOKEN  ", Served),
        ("X-KMS-Token: wrong\r\nX-Vault-Token: TOKEN", Served),
        ("X-KMS-Token: TOKEN\r\nX-Vault-Token: TOKEN", Served),
        ("X-Other: 1", refused),
        ("X-KMS-Token:", refused),
        ("X-KMS-Token: wrong", refused),
        ("X-KMS-Token: TOKENx", refused),
        (&format!("X-KMS-Token: {short}"), refused),
        (&format!("X-KMS-Token: {upper}"), refused),
        ("X-KMS-Token: TOKEN TOKEN", refused),
        ("X-KMS-Token: TOKEN, TOKEN", refused),
        ("X-KMS-Token: \"TOKEN\"", refused),
        ("X-KMS-Token: Bearer TOKEN", refused),
        ("X-KMS-Token: TOKEN\r\nX-KMS-Token: TOKEN", refused),
        ("X-KMS-Token: TOKEN\r\nx-kms-token: wrong", refused),
        (
            "X-Vault-Token: TOKEN\r\nX-KMS-Token: wrong\r\nX-KMS-Token: wrong",
            refused,
        ),
        ("Authorization: Bearer TOKEN", refused),
        ("Cookie: X-KMS-Token=TOKEN", refused),
        ("X-KMS_Token: TOKEN", refused),
        ("X-AWS-Parameters-Secrets-Token: TOKEN", refused),
    ] {
        let request = format!("GET /v1/s HTTP/1.1\r\nHost: localhost:PORT\r\n{lines}\r\n\r\n");
        expect(&agent, request, expected);
    }
    for target in [
        "/v1/s?X-KMS-Token=TOKEN",
        "/v1/s?token=TOKEN",
        "/secretsmanager/get?secretId=s&X-KMS-Token=TOKEN",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n");
        expect(&agent, request, refused);
    }
}

fn refusal(agent: &TestAgent, target: &str) -> Reply {
    let mut connection = Connection::open(agent.port()).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n");
    connection.send(&fill(request, agent.port())).unwrap();
    let mut reply = connection.reply().unwrap();
    reply.headers.retain(|(name, _)| name != "date");
    reply
}

#[test]
fn without_the_token_no_path_can_be_told_from_another() {
    let (_cloud, agent) = agent();
    let first = refusal(&agent, "/v1/s");
    assert_eq!(first.status, 403);
    for target in [
        "/v1/missing",
        "/v1/",
        "/v1",
        "/secretsmanager/get?secretId=s",
        "/secretsmanager/get?secretId=s&refreshNow=maybe",
        "/secretsmanager/get",
        "/nothing",
        "/",
        "//",
        "/ping/",
        "/ping/x",
        "/PING",
        "/%70ing",
        "/livez;x",
        "/readyz/../v1/s",
        "/metrics/",
        "/agent/batch?secretId=s",
        "/agent/status",
        "/agent/purge?all=true",
        "/v1/%",
        "/favicon.ico",
    ] {
        assert_eq!(refusal(&agent, target), first, "{target}");
    }
}

#[test]
fn health_paths_name_no_secret() {
    let cloud = Cloud::start();
    cloud.put("canary-name", "canary-value");
    let agent = cloud.setup().start();
    for query in [
        "canary-name",
        "canary-missing",
        "canary-name&versionId=canary-id",
    ] {
        agent.read(query);
    }
    for path in ["/ping", "/livez", "/readyz", "/metrics"] {
        let reply = http::get(agent.port(), path, &[]);
        assert_eq!(reply.status, 200, "{path}");
        assert!(!reply.text().contains("canary"), "{path}: {}", reply.text());
    }
}
