//! More connections than `MaxConn` allows.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kms_agent_emulator::{Fault, FaultKind};
use kms_agent_test_support::http::{self, Connection};
use kms_agent_test_support::{TOKEN, TestAgent};

use super::descriptors::descriptors;
use super::{fill, wait_until, with_lines};
use crate::harness::cloud::Cloud;

const MAX_CONN: usize = 8;

/// Connections over the limit that are still read.
const OVERFLOW: usize = 4;

const HEALTH: [&str; 4] = ["/ping", "/livez", "/readyz", "/metrics"];

fn crowded() -> (Cloud, TestAgent) {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud
        .setup()
        .config(format!(
            "[Server]\nHttpPort = 0\nMaxConn = {MAX_CONN}\n[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\nRequestTimeoutMs = 60000\n[Log]\nLogPath = \"\"\n",
            cloud.base_url()
        ))
        .start();
    (cloud, agent)
}

fn connect(agent: &TestAgent) -> Connection {
    Connection::open(agent.port()).unwrap()
}

/// Opens a connection that has shown the token and stays open.
fn known(agent: &TestAgent) -> Connection {
    let mut connection = connect(agent);
    let request = fill(with_lines(""), agent.port());
    connection.send(&request).unwrap();
    assert_eq!(connection.reply().unwrap().status, 200);
    connection
}

/// Takes every connection slot with the token, so that none gives way.
fn take_all(agent: &TestAgent) -> Vec<Connection> {
    let taken = (0..MAX_CONN).map(|_| known(agent)).collect();
    wait_until("the limit is reached", || {
        status(agent.port(), &without_token("/v1/s")) == Some(429)
    });
    taken
}

/// Returns the outcome of `request`, or `None` if its connection gave way to newer ones before it arrived.
fn status(port: u16, request: &str) -> Option<u16> {
    let mut connection = Connection::open(port).ok()?;
    connection.send(&fill(request, port)).ok()?;
    Some(connection.reply().ok()?.status)
}

fn without_token(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n")
}

fn assert_health_is_answered(agent: &TestAgent) {
    for path in HEALTH {
        assert_eq!(http::get(agent.port(), path, &[]).status, 200, "{path}");
    }
}

#[test]
fn past_the_limit_health_is_answered_and_all_else_is_429() {
    let (_cloud, agent) = crowded();
    let taken = take_all(&agent);
    for (request, status) in [
        (with_lines(""), 429),
        ("GET /nothing HTTP/1.1\r\n\r\n".to_owned(), 429),
        (with_lines("Via: x\r\n"), 429),
        (
            "POST /v1/s HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
            429,
        ),
        (
            "GET /livez HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n".to_owned(),
            200,
        ),
        (
            "GET /livez HTTP/1.1\r\nHost: evil:PORT\r\n\r\n".to_owned(),
            403,
        ),
        (
            "DELETE /livez HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n".to_owned(),
            405,
        ),
        ("nonsense\r\n\r\n".to_owned(), 400),
    ] {
        let mut connection = connect(&agent);
        connection.send(&fill(&request, agent.port())).unwrap();
        let reply = connection.reply().unwrap();
        assert_eq!(reply.status, status, "{request}");
        assert_eq!(reply.header("connection"), Some("close"), "{request}");
        assert_eq!(reply.header("retry-after").is_some(), status == 429);
        if status == 429 {
            assert_eq!(reply.json()["Code"], "TooManyConnections", "{request}");
        }
        assert_eq!(connection.end(), b"", "{request}");
    }
    assert_health_is_answered(&agent);
    drop(taken);
    wait_until("service is back", || agent.read("s").status == 200);
}

#[test]
fn past_the_limit_silent_connections_give_way_to_new_ones() {
    let (_cloud, agent) = crowded();
    let _taken = take_all(&agent);
    let mut silent: Vec<Connection> = (0..20).map(|_| connect(&agent)).collect();
    let late = silent.split_off(20 - OVERFLOW);
    let began = Instant::now();
    for connection in silent {
        assert_eq!(connection.end(), b"", "it gave way");
    }
    for connection in late {
        assert_eq!(connection.end(), b"", "a second is all it gets");
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "they do not get what others get"
    );
    assert_health_is_answered(&agent);
}

#[test]
fn health_is_answered_while_others_ask_and_do_not_go() {
    let (_cloud, agent) = crowded();
    let _taken = take_all(&agent);
    let mut lingering = Vec::new();
    for _ in 0..10 {
        for _ in 0..2 * OVERFLOW {
            let mut connection = connect(&agent);
            let request = fill(with_lines(""), agent.port());
            connection.send(&request).unwrap();
            assert_eq!(connection.reply().unwrap().status, 429);
            lingering.push(connection);
        }
        assert_health_is_answered(&agent);
    }
}

/// Stops a flood when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn half_open_floods_stop_neither_health_nor_readers() {
    let (_cloud, agent) = crowded();
    let port = agent.port();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for said in [&b""[..], b"GET /v1/s HTTP/1.1\r\nHost:"] {
            let over = &over;
            scope.spawn(move || {
                let mut held = VecDeque::new();
                while !over.load(Ordering::Relaxed) {
                    // The system is out of ports; the flood pauses.
                    let Ok(mut connection) = Connection::open(port) else {
                        continue;
                    };
                    let _ = connection.send(said);
                    held.push_back(connection);
                    if held.len() > 500 {
                        held.pop_front();
                    }
                }
            });
        }
        let _ends = Ends(&over);
        let reader = with_lines("Connection: close\r\n");
        let requests: Vec<String> = HEALTH
            .iter()
            .map(|path| without_token(path))
            .chain([reader])
            .collect();
        let lost = (0..250)
            .filter(|round| status(port, &requests[round % requests.len()]) != Some(200))
            .count();
        // With eight slots the flood may push the connection out before its request is sent.
        assert!(lost < 25, "{lost} of 250 requests were lost");
    });
    let request = with_lines("Connection: close\r\n");
    wait_until("service is back", || {
        (0..MAX_CONN).all(|_| status(port, &request) == Some(200))
    });
}

#[test]
fn silent_connections_by_the_hundred_keep_no_reader_out() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    // Default of MaxConn.
    let agent = cloud.setup().start();
    let mut kept = known(&agent);
    let port = agent.port();
    let over = AtomicBool::new(false);
    let opened = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut held = VecDeque::new();
            while !over.load(Ordering::Relaxed) {
                if let Ok(connection) = Connection::open(port) {
                    held.push_back(connection);
                    opened.fetch_add(1, Ordering::Relaxed);
                }
                if held.len() > 850 {
                    held.pop_front();
                }
            }
        });
        let _ends = Ends(&over);
        wait_until("every slot is taken", || {
            opened.load(Ordering::Relaxed) > 850
        });
        let request = fill(with_lines(""), port);
        for round in 0..200 {
            let reply = agent.read("s");
            assert_eq!(reply.status, 200, "reader {round}: {}", reply.text());
            kept.send(&request).unwrap();
            assert_eq!(kept.reply().unwrap().status, 200, "kept connection");
            // MaxConn, and connections that are closing. The agent has few other descriptors.
            let open = descriptors(&agent).unwrap_or(0);
            assert!(open < 800 + 64 + 4 + 60, "{open} descriptors");
        }
    });
}

#[test]
fn connections_with_the_token_notice_nothing_of_a_crowd() {
    let (_cloud, agent) = crowded();
    let mut kept = take_all(&agent);
    let _crowd: Vec<TcpStream> = (0..50)
        .map(|_| TcpStream::connect(("127.0.0.1", agent.port())).unwrap())
        .collect();
    let request = fill(with_lines(""), agent.port());
    for _ in 0..20 {
        for connection in &mut kept {
            connection.send(&request).unwrap();
            assert_eq!(connection.reply().unwrap().status, 200);
        }
        let other = http::get(agent.port(), "/v1/s", &[("X-KMS-Token", TOKEN)]);
        assert_eq!(other.status, 429);
    }
}

#[test]
fn a_silent_connection_gives_way_to_a_newcomer_and_one_that_waits_for_kms_does_not() {
    let (cloud, agent) = crowded();
    cloud.fault(Fault::latency(Duration::from_secs(3))).unwrap();
    let mut waiting: Vec<Connection> = (1..MAX_CONN)
        .map(|_| {
            let mut connection = connect(&agent);
            let request = fill(with_lines(""), agent.port());
            connection.send(&request).unwrap();
            connection
        })
        .collect();
    wait_until("KMS is asked", || cloud.reads() == 1);
    let silent: Vec<Connection> = (0..3).map(|_| connect(&agent)).collect();
    assert_eq!(http::get(agent.port(), "/ping", &[]).status, 200);
    for connection in silent {
        assert_eq!(connection.end(), b"", "it gave way");
    }
    for connection in &mut waiting {
        assert_eq!(connection.reply().unwrap().status, 200);
    }
}

#[test]
fn a_client_that_leaves_while_kms_hangs_gives_its_place_back() {
    for resets in [false, true] {
        let (cloud, agent) = crowded();
        cloud.fault(Fault::new(FaultKind::Hang)).unwrap();
        let waiting: Vec<Connection> = (0..MAX_CONN)
            .map(|_| {
                let mut connection = connect(&agent);
                connection
                    .send(&fill(with_lines(""), agent.port()))
                    .unwrap();
                connection
            })
            .collect();
        wait_until("the limit is reached", || {
            status(agent.port(), &without_token("/v1/s")) == Some(429)
        });
        if resets {
            for connection in &waiting {
                let linger = Some(Duration::ZERO);
                rustix::net::sockopt::set_socket_linger(connection.stream(), linger).unwrap();
            }
        }
        drop(waiting);
        // Without a reset the agent cannot distinguish them from clients that still read. They give way before their
        // own time limit.
        for _ in 0..2 * MAX_CONN {
            wait_until("the places are free again", || {
                status(agent.port(), &without_token("/v1/s")) == Some(403)
            });
        }
    }
}

#[test]
fn wrong_tokens_by_the_hundred_keep_no_reader_out() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    // The token comes from a file, so that the agent rereads the file at a wrong token.
    let agent = cloud.setup().env("KMS_TOKEN", "file://kmstoken").start();
    let port = agent.port();
    let token = std::fs::read_to_string(agent.folder().join("kmstoken")).unwrap();
    let over = AtomicBool::new(false);
    let opened = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let request = with_lines("").replace("TOKEN", "00000000000000000000000000000000");
                let request = fill(request, port);
                let mut held = VecDeque::new();
                while !over.load(Ordering::Relaxed) {
                    if let Ok(mut connection) = Connection::open(port) {
                        let _ = connection.send(&request);
                        held.push_back(connection);
                        opened.fetch_add(1, Ordering::Relaxed);
                    }
                    if held.len() > 850 {
                        held.pop_front();
                    }
                }
            });
        }
        let _ends = Ends(&over);
        wait_until("every slot is taken", || {
            opened.load(Ordering::Relaxed) > 1700
        });
        for round in 0..100 {
            let reply = http::get(port, "/v1/s", &[("X-KMS-Token", token.trim())]);
            assert_eq!(reply.status, 200, "reader {round}: {}", reply.text());
        }
    });
}
