//! Time limits for clients. The tests run side by side, because each waits for a limit.

use std::thread;
use std::time::{Duration, Instant};

use kms_agent_test_support::http::Connection;

use super::{agent, fill, wait_until, with_lines};

/// Limit for a complete head, and for an idle connection.
const HEAD_LIMIT: Duration = Duration::from_secs(15);

/// Limit for taking an answer.
const TAKE_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_client_that_keeps_the_agent_waiting_is_cut_without_an_answer() {
    let (cloud, agent) = agent();
    // Several of these are more than the sockets' buffers.
    cloud.put("large", &"x".repeat(60_000));
    let port = agent.port();
    let requests = fill(with_lines("").replace("/v1/s", "/v1/large"), port);
    let one = fill(with_lines(""), port);

    thread::scope(|scope| {
        for (name, said) in [
            ("nothing at all", &b""[..]),
            ("a line break", b"\r\n"),
            ("half a method", b"GE"),
            ("half a head", b"GET /ping HTTP/1.1\r\nHost: localhost\r\n"),
        ] {
            scope.spawn(move || {
                let began = Instant::now();
                let mut connection = Connection::open(port).unwrap();
                connection.send(said).unwrap();
                assert_eq!(connection.end(), b"", "{name}");
                assert!(began.elapsed() >= HEAD_LIMIT, "{name}");
            });
        }
        scope.spawn(|| {
            let began = Instant::now();
            let mut connection = Connection::open(port).unwrap();
            // A byte now and then does not extend the limit.
            while connection.send(b"x").is_ok() {
                assert!(began.elapsed() < 2 * HEAD_LIMIT, "a slow head is never cut");
                thread::sleep(Duration::from_millis(500));
            }
            assert_eq!(connection.end(), b"");
            assert!(began.elapsed() >= HEAD_LIMIT);
        });
        scope.spawn(|| {
            let mut connection = Connection::open(port).unwrap();
            connection.send(&one).unwrap();
            assert_eq!(connection.reply().unwrap().status, 200);
            thread::sleep(Duration::from_secs(1));
            connection.send(&one).unwrap();
            assert_eq!(connection.reply().unwrap().status, 200);
            let idle = Instant::now();
            assert_eq!(connection.end(), b"");
            assert!(idle.elapsed() >= HEAD_LIMIT.mul_f64(0.9));
        });
        scope.spawn(|| {
            let mut connection = Connection::open(port).unwrap();
            let began = Instant::now();
            connection.send(&requests.repeat(400)).unwrap();
            wait_until("a client that takes nothing is cut", || {
                connection.stream().take_error().unwrap().is_some()
            });
            assert!(began.elapsed() >= TAKE_LIMIT);
        });
        scope.spawn(|| {
            let mut connection = Connection::open(port).unwrap();
            connection.send(&requests.repeat(400)).unwrap();
            // This client is slow, but takes each answer in time.
            for _ in 0..400 {
                assert_eq!(connection.reply().unwrap().status, 200);
                thread::sleep(TAKE_LIMIT * 3 / 2 / 400);
            }
        });
    });
    assert_eq!(agent.read("s").status, 200);
}
