//! Requests that no application on this machine would send, and applications while other clients misbehave.
//! Every row of every table has its expected outcome.

mod calls;
mod crowd;
mod descriptors;
mod ending;
mod form;
mod loopback;
mod method;
mod origin;
mod patience;
mod pipeline;
mod size;
mod token;

use std::time::{Duration, Instant};

use kms_agent_test_support::http::{Connection, Reply};
use kms_agent_test_support::{TOKEN, TestAgent};

use crate::harness::cloud::Cloud;

/// Limit for things that happen at once unless something hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// RequestOutcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestOutcome {
    /// 200 with the secret `s`.
    Served,
    /// 200 of a health path.
    Healthy,
    /// An error with this status and `Code`.
    Refused(u16, &'static str),
}
use RequestOutcome::{Healthy, Refused, Served};

/// Starts an agent with the secret `s`.
fn agent() -> (Cloud, TestAgent) {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud.setup().start();
    (cloud, agent)
}

/// Replaces `PORT` and `TOKEN` in `template` with the agent's port and token.
fn fill(template: impl AsRef<[u8]>, port: u16) -> Vec<u8> {
    let mut filled = template.as_ref().to_vec();
    for (mark, value) in [("PORT", port.to_string()), ("TOKEN", TOKEN.to_owned())] {
        let mut from = 0;
        while let Some(at) = filled[from..]
            .windows(mark.len())
            .position(|window| window == mark.as_bytes())
        {
            let at = from + at;
            filled.splice(at..at + mark.len(), value.bytes());
            from = at + value.len();
        }
    }
    filled
}

/// Returns a valid request for the secret with more header lines, each ended by CR LF.
fn with_lines(lines: &str) -> String {
    format!("GET /v1/s HTTP/1.1\r\nHost: localhost:PORT\r\nX-KMS-Token: TOKEN\r\n{lines}\r\n")
}

/// Sends `template` on a new connection and compares the answer with `expected`.
fn expect(agent: &TestAgent, template: impl AsRef<[u8]>, expected: RequestOutcome) {
    let template = template.as_ref();
    let name = String::from_utf8_lossy(&template[..template.len().min(300)]);
    let name = &*format!("{name:?}");
    let mut connection = Connection::open(agent.port()).unwrap();
    // The agent may close before the rest is sent.
    let _ = connection.send(&fill(template, agent.port()));
    let reply = connection.reply().expect(name);
    assert_eq!(outcome(&reply), expected, "{name}\n{reply:?}");
    if !is_behind_the_token(expected) {
        assert_closes(name, &reply, connection);
    }
}

/// Returns whether only a client with the token gets this outcome. Its connection may stay open.
fn is_behind_the_token(outcome: RequestOutcome) -> bool {
    match outcome {
        Served => true,
        Healthy => false,
        Refused(_, code) => [
            "UnknownPath",
            "MethodNotAllowed",
            "MissingParameter",
            "InvalidParameter",
        ]
        .contains(&code),
    }
}

fn outcome(reply: &Reply) -> RequestOutcome {
    let kind = reply
        .header("content-type")
        .expect("every answer has a text");
    match (reply.status, kind) {
        (200, "application/json") if reply.text().contains("SecretData") => Served,
        (200, _) => Healthy,
        (status, _) => {
            assert_eq!(kind, "application/json", "{reply:?}");
            let body = reply.json();
            assert!(
                body["Message"]
                    .as_str()
                    .is_some_and(|text| text.ends_with('.')),
                "an error says what to do: {reply:?}"
            );
            let code = body["Code"].as_str().unwrap().to_owned();
            Refused(status, String::leak(code))
        }
    }
}

/// Checks that the answer announces the end of the connection, and that the agent closes it.
fn assert_closes(name: &str, reply: &Reply, connection: Connection) {
    assert_eq!(reply.header("connection"), Some("close"), "{name}");
    assert_eq!(connection.end(), b"", "{name}");
}

/// Waits until `done` is true.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LIMIT, "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
