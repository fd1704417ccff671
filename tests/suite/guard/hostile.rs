//! What becomes of requests that no application on this machine would send, and of applications while others
//! misbehave. Every row of every table says what to expect.

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

/// For what happens at once unless something hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// What a request comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The secret `s`.
    Served,
    /// 200 of a health path.
    Healthy,
    /// The status and the `Code` of a JSON body.
    Refused(u16, &'static str),
}
use Outcome::{Healthy, Refused, Served};

/// An agent with the secret `s`.
fn agent() -> (Cloud, TestAgent) {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud.setup().start();
    (cloud, agent)
}

/// `template` with the agent's own port for `PORT` and the token for `TOKEN`.
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

/// A request for the secret that would be served, with more header lines, each ended by CR LF.
fn with_lines(lines: &str) -> String {
    format!("GET /v1/s HTTP/1.1\r\nHost: localhost:PORT\r\nX-KMS-Token: TOKEN\r\n{lines}\r\n")
}

/// Sends `template` on a connection of its own and holds the answer against `expected`.
fn expect(agent: &TestAgent, template: impl AsRef<[u8]>, expected: Outcome) {
    let template = template.as_ref();
    let name = String::from_utf8_lossy(&template[..template.len().min(300)]);
    let name = &*format!("{name:?}");
    let mut connection = Connection::open(agent.port()).unwrap();
    // A server that has seen enough may close while the rest is being sent.
    let _ = connection.send(&fill(template, agent.port()));
    let reply = connection.reply().expect(name);
    assert_eq!(outcome(&reply), expected, "{name}\n{reply:?}");
    if !is_behind_the_token(expected) {
        assert_closes(name, &reply, connection);
    }
}

/// Whether only the holder of the token is told so. What else there is to check of the connection then
/// depends on the request.
fn is_behind_the_token(outcome: Outcome) -> bool {
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

fn outcome(reply: &Reply) -> Outcome {
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

/// Whoever has shown no token is told that the connection ends, and it does.
fn assert_closes(name: &str, reply: &Reply, connection: Connection) {
    assert_eq!(reply.header("connection"), Some("close"), "{name}");
    assert_eq!(connection.end(), b"", "{name}");
}

/// Waits until `done`.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LIMIT, "{what} does not come to pass");
        std::thread::sleep(Duration::from_millis(20));
    }
}
