//! Reuse of connections to KMS, and their end when they are idle.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kms_agent_emulator::{Fault, FaultKind};
use kms_agent_test_support::TestAgent;

use super::by_tls;
use crate::harness::cloud::Cloud;
use crate::harness::network::{Authority, Front};

/// Number of the state in /proc/net/tcp.
const ESTABLISHED: &str = "01";

/// Shorter than the emulator's idle limit of half a minute.
const PATIENCE: Duration = Duration::from_secs(20);

/// Returns the states of `agent`'s connections to `port`.
fn states(agent: &TestAgent, port: u16) -> Vec<String> {
    // The table lists the other end of each of them, too.
    let own = own_sockets(agent);
    std::fs::read_to_string("/proc/net/tcp")
        .unwrap()
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (remote, state, inode) = (fields[2], fields[3], fields[9]);
            (remote.ends_with(&format!(":{port:04X}")) && own.contains(&inode.to_owned()))
                .then(|| state.to_owned())
        })
        .collect()
}

fn own_sockets(agent: &TestAgent) -> Vec<String> {
    std::fs::read_dir(format!("/proc/{}/fd", agent.pid()))
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.path()).ok()?;
            let text = target.to_str()?;
            Some(text.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect()
}

#[test]
fn a_hundred_reads_in_a_row_take_one_handshake() {
    let cloud = Cloud::start();
    let authority = Authority::new();
    let front = Front::start(cloud.address(), authority.certify("127.0.0.1"));
    let agent = by_tls(&cloud, front.address(), &authority.root_file()).start();
    // On a slow machine a connection may be idle long enough to be closed.
    let began = Instant::now();
    for round in 0.. {
        let before = front.handshakes().len();
        for n in 0..100 {
            let name = format!("s{round}-{n}");
            cloud.put(&name, "value");
            assert_eq!(agent.read(&name).status, 200);
        }
        if front.handshakes().len() - before <= 1 {
            return;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "{} handshakes in {round} rounds",
            front.handshakes().len()
        );
    }
}

/// Starts a server that answers one request and closes the connection at the next.
fn answer_once(listener: TcpListener, answers: usize, served: &AtomicUsize) {
    let body = r#"{"SecretName":"s","VersionId":"1","SecretData":"v"}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for stream in listener.incoming() {
        let mut reader = BufReader::new(stream.unwrap());
        for nth in 0..=answers {
            let head = reader.by_ref().lines().map_while(Result::ok);
            if head.take_while(|line| !line.is_empty()).count() == 0 {
                break;
            }
            served.fetch_add(1, Ordering::Relaxed);
            if nth < answers {
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        }
    }
}

#[test]
fn a_connection_that_ends_as_it_is_used_again_costs_no_reader_anything() {
    let cloud = Cloud::start();
    for (answers, status, reads) in [(1, 200, 10), (0, 503, 1)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let served = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&served);
        // It ends with the test process.
        std::thread::spawn(move || answer_once(listener, answers, &seen));
        let agent = cloud
            .setup_at(&endpoint)
            .and_config("MaxAttempts = 1\n")
            .start();
        for _ in 0..reads {
            let reply = agent.read("s&refreshNow=true");
            assert_eq!(reply.status, status, "{}\n{}", reply.text(), agent.stderr());
        }
        // A cut on a new connection is an ordinary failure.
        let served = served.load(Ordering::Relaxed);
        assert!(answers > 0 || served == 1, "{served} requests");
    }
}

#[test]
fn an_idle_connection_is_closed_whichever_side_ends_it() {
    if !std::path::Path::new("/proc/net/tcp").exists() {
        assert!(std::env::var_os("CI").is_none(), "CI has /proc");
        eprintln!("skipped: no /proc/net/tcp");
        return;
    }
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let authority = Authority::new();
    let front = Front::start(cloud.address(), authority.certify("127.0.0.1"));
    let agent = by_tls(&cloud, front.address(), &authority.root_file()).start();
    let until_none = |what: &str| {
        let began = Instant::now();
        loop {
            let left = states(&agent, front.address().port());
            if left.is_empty() {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {left:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    // A connection in use must be visible, or the test would prove nothing.
    cloud.fault(Fault::new(FaultKind::Hang).times(1)).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| agent.read("s"));
        let began = Instant::now();
        while cloud.reads() == 0 {
            assert!(began.elapsed() < PATIENCE, "KMS is not asked");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(states(&agent, front.address().port()), [ESTABLISHED]);
        front.hang_up();
        assert_eq!(reader.join().unwrap().status, 503);
    });
    for _ in 0..3 {
        assert_eq!(agent.read("s&refreshNow=true").status, 200);
        until_none("left alone by both");
        assert_eq!(agent.read("s&refreshNow=true").status, 200);
        front.hang_up();
        until_none("closed by the server");
    }
}
