//! Calls to KMS outlive the readers that caused them, so they have a limit of their own.

use std::time::{Duration, Instant};

use kms_agent_emulator::{Fault, FaultKind};
use kms_agent_test_support::http::{self, Connection};
use kms_agent_test_support::{TOKEN, TestAgent};

use super::wait_until;
use crate::harness::cloud::Cloud;

/// Limit of concurrent calls.
const LIMIT: usize = 256;

/// Descriptors other than those of calls and readers: listeners, log, and the runtime's own.
const OTHERS: usize = 64;

/// Limit of concurrent readers. Some that have just left still count.
const READERS: usize = 800;

fn descriptors(agent: &TestAgent) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", agent.pid()))
        .unwrap()
        .count()
}

/// Requests `name` and closes the connection.
fn ask_and_leave(agent: &TestAgent, name: &str) {
    let port = agent.port();
    let request = format!(
        "GET /v1/{name} HTTP/1.1\r\nHost: localhost:{port}\r\nX-KMS-Token: {TOKEN}\r\n\r\n"
    );
    let mut connection = Connection::open(port).unwrap();
    connection.send(request.as_bytes()).unwrap();
    rustix::net::sockopt::set_socket_linger(connection.stream(), Some(Duration::ZERO)).unwrap();
}

#[test]
fn hang_ups_over_a_kms_that_hangs_leave_a_bounded_number_of_calls() {
    let cloud = Cloud::start();
    cloud.put("held", "value");
    let agent = cloud
        .setup()
        .and_config("MaxRequestsPerSecond = 0\n")
        .start();
    assert_eq!(agent.read("held").status, 200);
    cloud.fault(Fault::new(FaultKind::Hang)).unwrap();
    let mut most = 0;
    let began = Instant::now();
    for n in 0..3000 {
        ask_and_leave(&agent, &format!("s{n}"));
        if n % 50 == 0 {
            most = most.max(descriptors(&agent));
            // Cached secrets are still served.
            assert_eq!(agent.read("held").status, 200);
        }
    }
    assert!(most <= LIMIT + READERS + OTHERS, "{most} descriptors");
    wait_until("no more than the calls is left", || {
        descriptors(&agent) <= LIMIT + OTHERS
    });
    // A call ends after RequestTimeoutMs, and another may take its place.
    let rounds = began.elapsed().as_secs() / 5 + 2;
    let reads = cloud.reads();
    assert!(
        reads <= 1 + rounds * LIMIT as u64,
        "{reads} in {rounds} rounds"
    );
    cloud.clear_faults();
    cloud.put("after", "value");
    wait_until("KMS is asked again", || agent.read("after").status == 200);
}

#[test]
fn a_purge_says_one_thing_or_the_other() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud.setup().start();
    agent.read("s");
    let purge = |query: &str| {
        let port = agent.port();
        let head = format!(
            "POST /agent/purge?{query} HTTP/1.1\r\nHost: localhost:{port}\r\nX-KMS-Token: {TOKEN}\r\nContent-Length: 0\r\n\r\n"
        );
        http::send(port, head.as_bytes()).unwrap()
    };
    for query in [
        "all=true&secretId=",
        "all=true&secretId=s",
        "secretId=&all=1&force=1",
        "secretId=s&force=true",
        "secretId=",
        "all=false&secretId=",
    ] {
        assert_eq!(purge(query).status, 400, "{query}");
    }
    assert_eq!(purge("all=false&secretId=s").json()["purged"], 1);
}
