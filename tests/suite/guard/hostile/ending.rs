//! Shutdown while clients are connected.

use std::thread;
use std::time::{Duration, Instant};

use kms_agent_emulator::Fault;
use kms_agent_test_support::TestAgent;
use kms_agent_test_support::http::Connection;
use rustix::process::Signal;

use super::{agent, fill, wait_until, with_lines};

/// Log message when the agent had to cut connections.
const DRAINED_BY_FORCE: &str = "Connections did not finish in time";

/// Most calls to KMS in a burst, by default.
const REQUESTS: u64 = 200;

fn connect(agent: &TestAgent) -> Connection {
    Connection::open(agent.port()).unwrap()
}

#[test]
fn requests_in_flight_are_all_answered() {
    let (cloud, agent) = agent();
    let names: Vec<String> = (0..REQUESTS)
        .map(|number| format!("secret-{number}"))
        .collect();
    for name in &names {
        cloud.put(name, name);
    }
    cloud.fault(Fault::latency(Duration::from_secs(2))).unwrap();
    let mut connections: Vec<Connection> = names
        .iter()
        .map(|name| {
            let mut connection = connect(&agent);
            let request = with_lines("").replace("/v1/s", &format!("/v1/{name}"));
            connection.send(&fill(request, agent.port())).unwrap();
            connection
        })
        .collect();
    wait_until("every request is under way", || cloud.reads() == REQUESTS);
    agent.signal(Signal::TERM);
    for (connection, name) in connections.iter_mut().zip(&names) {
        let reply = connection.reply().expect(name);
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["SecretData"], name.as_str());
    }
    for connection in connections {
        assert_eq!(connection.end(), b"");
    }
    wait_until("the agent has stopped", || {
        agent.stderr().contains("Stopped")
    });
    assert!(!agent.stderr().contains(DRAINED_BY_FORCE));
}

#[test]
fn what_had_been_sent_when_the_signal_came_is_answered() {
    for _ in 0..5 {
        let (_cloud, agent) = agent();
        assert_eq!(agent.read("s").status, 200);
        let request = fill(with_lines(""), agent.port());
        let mut kept = connect(&agent);
        kept.send(&request).unwrap();
        assert_eq!(kept.reply().unwrap().header("connection"), None);
        let mut connections: Vec<Connection> = (0..50).map(|_| connect(&agent)).collect();
        connections.push(kept);
        for connection in &mut connections {
            connection.send(&request).unwrap();
        }
        agent.signal(Signal::TERM);
        for mut connection in connections {
            assert_eq!(connection.reply().unwrap().status, 200);
            assert_eq!(connection.end(), b"");
        }
    }
}

#[test]
fn idle_and_unused_connections_do_not_hold_the_end_up() {
    let (_cloud, agent) = agent();
    let unused: Vec<Connection> = (0..30).map(|_| connect(&agent)).collect();
    let idle: Vec<Connection> = (0..30)
        .map(|_| {
            let mut connection = connect(&agent);
            connection
                .send(&fill(with_lines(""), agent.port()))
                .unwrap();
            assert_eq!(connection.reply().unwrap().status, 200);
            connection
        })
        .collect();
    agent.signal(Signal::TERM);
    // The clients do not react, and the agent still ends.
    wait_until("the agent has stopped", || {
        agent.stderr().contains("Stopped")
    });
    assert!(!agent.stderr().contains(DRAINED_BY_FORCE));
    for connection in unused.into_iter().chain(idle) {
        assert_eq!(connection.end(), b"");
    }
    let (status, log) = agent.stop();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn half_a_request_does_not_hold_the_end_up() {
    let (_cloud, agent) = agent();
    let mut half = connect(&agent);
    half.send(b"GET /ping HTTP/1.1\r\n").unwrap();
    thread::sleep(Duration::from_millis(200));
    agent.signal(Signal::TERM);
    wait_until("the agent has stopped", || {
        agent.stderr().contains("Stopped")
    });
    assert!(!agent.stderr().contains(DRAINED_BY_FORCE));
    assert_eq!(half.end(), b"");
}

#[test]
fn a_request_that_is_completed_in_time_is_answered_though_the_end_has_come() {
    let (_cloud, agent) = agent();
    let mut half = connect(&agent);
    half.send(b"GET /ping HTTP/1.1\r\n").unwrap();
    thread::sleep(Duration::from_millis(200));
    agent.signal(Signal::TERM);
    wait_until("the first signal counts", || {
        agent.stderr().contains("Stopping")
    });
    half.send(&fill("Host: localhost:PORT\r\n\r\n", agent.port()))
        .unwrap();
    assert_eq!(half.reply().unwrap().status, 200);
    assert_eq!(half.end(), b"");
}

#[test]
fn an_answer_that_does_not_come_is_left_after_a_while() {
    let (cloud, agent) = agent();
    cloud.fault(Fault::latency(Duration::from_mins(1))).unwrap();
    let mut waiting = connect(&agent);
    waiting.send(&fill(with_lines(""), agent.port())).unwrap();
    wait_until("the request is under way", || cloud.reads() == 1);
    agent.signal(Signal::TERM);
    wait_until("the agent has stopped", || {
        agent.stderr().contains("Stopped")
    });
    assert!(agent.stderr().contains(DRAINED_BY_FORCE));
    assert_eq!(waiting.end(), b"");
}

#[test]
fn an_answer_that_is_taken_slowly_is_finished() {
    let (cloud, agent) = agent();
    let value = "v".repeat(200_000);
    cloud.put("large", &value);
    let request = fill(with_lines("").replace("/v1/s", "/v1/large"), agent.port());
    let mut slow = connect(&agent);
    // Far more than the system buffers for a client that does not read.
    let answers = 60;
    for _ in 0..answers {
        slow.send(&request).unwrap();
    }
    wait_until("the first answer is under way", || {
        agent.stderr().contains("secret=\"large\"")
    });
    agent.signal(Signal::TERM);
    wait_until("the first signal counts", || {
        agent.stderr().contains("Stopping")
    });
    thread::sleep(Duration::from_millis(1500));
    let mut whole = 0;
    while let Ok(reply) = slow.reply() {
        assert_eq!(
            reply.json()["SecretData"].as_str().unwrap().len(),
            value.len()
        );
        whole += 1;
    }
    assert!(whole > 1 && whole < answers, "{whole} answers");
    assert_eq!(slow.end().len(), 0, "no answer is cut short");
}

#[test]
fn a_second_signal_ends_at_once() {
    let (cloud, agent) = agent();
    cloud.fault(Fault::latency(Duration::from_mins(1))).unwrap();
    let mut waiting = connect(&agent);
    waiting.send(&fill(with_lines(""), agent.port())).unwrap();
    wait_until("the request is under way", || cloud.reads() == 1);
    let began = Instant::now();
    agent.signal(Signal::INT);
    wait_until("the first signal counts", || {
        agent.stderr().contains("Stopping")
    });
    let (status, log) = agent.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "it was waited for"
    );
    assert!(!log.contains(DRAINED_BY_FORCE), "{log}");
    assert_eq!(waiting.end(), b"");
}

#[test]
fn nobody_is_let_in_any_more_while_the_last_requests_end() {
    let (cloud, agent) = agent();
    cloud.fault(Fault::latency(Duration::from_secs(2))).unwrap();
    let mut waiting = connect(&agent);
    waiting.send(&fill(with_lines(""), agent.port())).unwrap();
    wait_until("the request is under way", || cloud.reads() == 1);
    agent.signal(Signal::TERM);
    wait_until("the door is shut", || {
        Connection::open(agent.port()).is_err()
    });
    assert_eq!(waiting.reply().unwrap().status, 200);
}
