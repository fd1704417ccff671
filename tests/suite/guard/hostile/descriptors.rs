//! Short connections, and a system without free descriptors.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use kms_agent_test_support::http::{self, Connection};
use kms_agent_test_support::{Setup, TestAgent};

use super::{agent, fill, wait_until, with_lines};
use crate::harness::cloud::{BINARY, Cloud};

/// Returns the number of the agent's open descriptors, or `None` if only root may count them.
pub(super) fn descriptors(agent: &TestAgent) -> Option<usize> {
    let folder = format!("/proc/{}/fd", agent.pid());
    match std::fs::read_dir(folder) {
        Ok(entries) => Some(entries.count()),
        Err(error) => {
            eprintln!("descriptors are not counted: {error}");
            None
        }
    }
}

/// Returns the resident memory in KiB.
fn resident(agent: &TestAgent) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// Ends a connection with a reset, as when a process is killed with unread data.
fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

/// Opens a few thousand connections and ends each in one of several ways.
fn come_and_go(agent: &TestAgent, rounds: usize) {
    let port = agent.port();
    let request = fill(with_lines(""), port);
    let half = &request[..request.len() / 2];
    let refused = b"GET / HTTP/1.1\r\n\r\n";
    thread::scope(|scope| {
        for said in [b"", half, &*request, refused, b"\0\r\n\r\n"] {
            scope.spawn(move || {
                for round in 0..rounds {
                    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
                    // The agent may have closed already.
                    let _ = stream.write_all(said);
                    if round % 2 == 0 {
                        reset(stream);
                    }
                }
            });
        }
    });
}

#[test]
fn thousands_of_connects_and_resets_leave_nothing_behind() {
    let (_cloud, agent) = agent();
    come_and_go(&agent, 200);
    wait_until("the agent answers", || agent.read("s").status == 200);
    // Upstream connections and the like count before and after.
    let mut least = usize::MAX;
    wait_until("the agent comes to rest", || {
        let now = descriptors(&agent).unwrap_or(0);
        let rests = now == least;
        least = least.min(now);
        thread::sleep(Duration::from_millis(300));
        rests
    });
    let memory = resident(&agent);

    come_and_go(&agent, 1000);
    assert_eq!(agent.read("s").status, 200);
    wait_until("every descriptor is given back", || {
        descriptors(&agent).is_none_or(|now| now <= least)
    });
    // A leaked buffer for each connection would be ten times that; the allocator keeps some freed memory.
    let grown = resident(&agent).saturating_sub(memory);
    assert!(
        grown < 16 * 1024,
        "5000 connections left {grown} KiB behind"
    );
}

#[test]
fn without_descriptors_the_agent_waits_for_better_times() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("agent.sh");
    let text = format!("#!/bin/sh\nulimit -n 64\nexec '{BINARY}' \"$@\"\n");
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    let key = cloud.access_key();
    let agent = Setup::new(&script)
        .kms(cloud.base_url(), key.id(), key.expose_secret())
        .start();
    assert_eq!(agent.read("s").status, 200);

    let crowd: Vec<Connection> = (0..150)
        .map(|_| Connection::open(agent.port()).unwrap())
        .collect();
    let told = || {
        agent
            .stderr()
            .matches("Accepting connections failed")
            .count()
    };
    wait_until("the shortage is logged", || told() > 0);
    // One more waits in the queue, and is answered once a descriptor is free.
    let mut patient = Connection::open(agent.port()).unwrap();
    let last = fill(with_lines("Connection: close\r\n"), agent.port());
    patient.send(&last).unwrap();
    drop(crowd);
    assert_eq!(patient.reply().unwrap().status, 200);
    // Far more connections than descriptors, one after the other: each is answered.
    come_and_go(&agent, 100);
    wait_until("service is back", || {
        http::get(agent.port(), "/livez", &[]).status == 200
    });
    let fresh = agent.read("s&refreshNow=true");
    assert_eq!(fresh.status, 200, "KMS can be reached: {}", fresh.text());
    assert!(told() < 5, "it is logged {} times", told());
    let (status, log) = agent.stop();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn request_heads_without_the_token_pin_little_memory() {
    const CROWD: usize = 790;
    let (_cloud, agent) = agent();
    // This returns when the agent has read or refused every half head.
    let crowd = |bytes: usize| {
        let filler = "y".repeat(bytes);
        let request = format!("GET /v1/s HTTP/1.1\r\nHost: localhost\r\nX: {filler}");
        let held: Vec<TcpStream> = (0..CROWD)
            .map(|_| {
                let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, agent.port())).unwrap();
                // The agent refuses a head that is too long before all of it is sent.
                let _ = stream.write_all(request.as_bytes());
                stream
            })
            .collect();
        assert_eq!(agent.read("s").status, 200);
        held
    };
    assert_eq!(agent.read("s").status, 200);
    let start = resident(&agent);
    for bytes in [100_000, 15_000, 100_000, 15_000] {
        let held = crowd(bytes);
        // 100 KB for each of them would be 77 MiB.
        let grown = resident(&agent).saturating_sub(start);
        assert!(grown < 60 * 1024, "{CROWD} heads pin {grown} KiB");
        drop(held);
        wait_until("every descriptor is given back", || {
            descriptors(&agent).is_none_or(|now| now < 100)
        });
    }
}
