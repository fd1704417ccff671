//! Rows about refused requests.

use std::fs;

use kms_agent_test_support::http::{self, Connection};
use kms_agent_test_support::{Setup, TOKEN};

use super::row;
use crate::harness::cloud::{BINARY, Cloud};

/// Requests a secret with the token and one more header; returns the status.
fn ask_with(port: u16, name: &str, value: &str) -> u16 {
    http::get(port, "/v1/s", &[("X-KMS-Token", TOKEN), (name, value)]).status
}

#[test]
fn requests_that_are_refused() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud.setup().start();
    let port = agent.port();

    assert_eq!(
        http::get(port, "/v1/s", &[("X-KMS-Token", "wrong")]).status,
        403
    );
    row("403 InvalidToken").is_seen_on(&agent);

    let restricted = cloud
        .setup()
        .edit_config(|text| text.replace("[Server]", "[Server]\nDefaultSecrets = [\"app/*\"]"))
        .start();
    assert_eq!(restricted.read("s").json()["Code"], "AccessDenied");
    row("403 AccessDenied").is_seen_on(&restricted);

    let mapped =
        format!("GET /v1/s HTTP/1.1\r\nHost: kms-agent:8080\r\nX-KMS-Token: {TOKEN}\r\n\r\n");
    assert_eq!(http::send(port, mapped.as_bytes()).unwrap().status, 403);
    row("403 ForbiddenHost").is_seen_on(&agent);

    assert_eq!(ask_with(port, "Origin", "http://localhost"), 403);
    row("403 ForbiddenOrigin").is_seen_on(&agent);

    assert_eq!(ask_with(port, "X-Forwarded-For", "10.0.0.1"), 400);
    row("400 ForwardedRequest").is_seen_on(&agent);

    let placeholder = format!(
        "GET /secretsmanager/get?secretId=<SecretId> HTTP/1.1\r\nHost: localhost:{port}\r\nX-KMS-Token: {TOKEN}\r\n\r\n"
    );
    let reply = http::send(port, placeholder.as_bytes()).unwrap();
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json()["Code"], "InvalidRequest");
    row("400 InvalidRequest").is_seen_on(&agent);
}

#[test]
fn more_connections_than_there_may_be() {
    let agent = Setup::new(BINARY)
        .config("[Server]\nHttpPort = 0\nMaxConn = 1\n[Log]\nLogPath = \"\"\n")
        .start();
    // The connection has shown the token; one without it would give way.
    let mut taken = Connection::open(agent.port()).unwrap();
    let request = format!(
        "GET /agent/status HTTP/1.1\r\nHost: localhost:{}\r\nX-KMS-Token: {TOKEN}\r\n\r\n",
        agent.port()
    );
    taken.send(request.as_bytes()).unwrap();
    assert_eq!(taken.reply().unwrap().status, 200);
    assert_eq!(agent.read("s").status, 429);
    row("429 TooManyConnections").is_seen_on(&agent);
}

#[cfg(target_os = "linux")]
#[test]
fn a_want_of_descriptors() {
    use super::process::wait_for_line;

    let agent = Setup::new(BINARY).by("ulimit -n 64; exec \"$@\"").start();
    let crowd: Vec<_> = (0..100)
        .map(|_| Connection::open(agent.port()).unwrap())
        .collect();
    wait_for_line(&agent, "Accepting connections failed");
    drop(crowd);
    row("connections are accepted late or never").is_seen_on(&agent);
}

#[test]
fn a_token_file_that_is_emptied_at_work() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("kmstoken");
    fs::write(&token, TOKEN).unwrap();
    let agent = Setup::new(BINARY)
        .env("KMS_TOKEN", format!("file://{}", token.display()))
        .start();
    fs::write(&token, "").unwrap();
    row("a new token does not count").is_seen_on(&agent);
}
