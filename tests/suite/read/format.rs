//! Bodies of the secret routes in each `ResponseType`, byte for byte.

mod error;
mod part;
mod secret;
mod vault;

use kms_agent_emulator::{Fault, FaultKind};
use kms_agent_test_support::http::{self, Reply};
use kms_agent_test_support::{Setup, TestAgent};

use crate::harness::cloud::{BINARY, Cloud};

const QUERY_ROUTE: &str = "/secretsmanager/get?secretId=";
const PATH_ROUTE: &str = "/v1/";

/// Starts an agent with this response type.
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

/// Makes KMS answer with this status and body when this secret is read.
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

/// Sends `line` with these headers.
fn send(agent: &TestAgent, line: &str, headers: &str) -> Reply {
    let port = agent.port();
    let request = format!("{line} HTTP/1.1\r\nHost: localhost:{port}\r\n{headers}\r\n");
    http::send(port, request.as_bytes()).unwrap()
}
