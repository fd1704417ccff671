//! Several requests on a connection.

use std::net::Shutdown;
use std::time::Duration;

use kms_agent_emulator::Fault;
use kms_agent_test_support::http::Connection;

use super::{agent, fill, wait_until, with_lines};

const PING: &str = "GET /ping HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n";
const WRONG: &str = "GET /v1/s HTTP/1.1\r\nHost: localhost:PORT\r\nX-KMS-Token: wrong\r\n\r\n";
const MISSING: &str = "GET /no HTTP/1.1\r\nHost: localhost:PORT\r\nX-KMS-Token: TOKEN\r\n\r\n";
const FORWARDED: &str =
    "GET /v1/s HTTP/1.1\r\nHost: localhost:PORT\r\nX-KMS-Token: TOKEN\r\nVia: x\r\n\r\n";
const GARBAGE: &str = "garbage\r\n\r\n";

#[test]
fn pipelined_requests_are_answered_in_order_until_one_shows_no_token() {
    let (_cloud, agent) = agent();
    let good = &*with_lines("");
    let last = &*with_lines("Connection: close\r\n");
    let old = &*with_lines("").replace("HTTP/1.1", "HTTP/1.0");
    let old_kept = &*with_lines("Connection: keep-alive\r\n").replace("HTTP/1.1", "HTTP/1.0");
    for (requests, expected) in [
        (&[good, MISSING, good, last][..], &[200, 404, 200, 200][..]),
        (&[good, PING, good], &[200, 200]),
        (&[good, WRONG, good], &[200, 403]),
        (&[good, FORWARDED, good], &[200, 400]),
        (&[good, GARBAGE, good], &[200, 400]),
        (&[last, good], &[200]),
        (&[old, good], &[200]),
        (&[old_kept, last], &[200, 200]),
        (&[PING, PING], &[200]),
        (&[WRONG, good], &[403]),
    ] {
        let name = requests.concat();
        let mut connection = Connection::open(agent.port()).unwrap();
        connection.send(&fill(&name, agent.port())).unwrap();
        let found: Vec<u16> = expected
            .iter()
            .map(|_| connection.reply().expect(&name).status)
            .collect();
        assert_eq!(found, expected, "{name}");
        assert_eq!(connection.end(), b"", "{name}");
    }
}

#[test]
fn hundreds_of_requests_in_one_go_are_all_answered() {
    let (_cloud, agent) = agent();
    let mut connection = Connection::open(agent.port()).unwrap();
    let requests = fill(with_lines("").repeat(500), agent.port());
    connection.send(&requests).unwrap();
    for _ in 0..500 {
        assert_eq!(connection.reply().unwrap().status, 200);
    }
}

#[test]
fn a_connection_is_kept_for_the_holder_of_the_token() {
    let (_cloud, agent) = agent();
    let mut connection = Connection::open(agent.port()).unwrap();
    for request in [with_lines(""), MISSING.to_owned(), with_lines("")] {
        connection.send(&fill(request, agent.port())).unwrap();
        let reply = connection.reply().unwrap();
        assert_eq!(reply.header("connection"), None, "{reply:?}");
    }
    let last = fill(with_lines("Connection: close\r\n"), agent.port());
    connection.send(&last).unwrap();
    assert_eq!(
        connection.reply().unwrap().header("connection"),
        Some("close")
    );
    assert_eq!(connection.end(), b"");
}

#[test]
fn a_head_may_come_in_pieces() {
    let (_cloud, agent) = agent();
    let mut connection = Connection::open(agent.port()).unwrap();
    for byte in fill(with_lines(""), agent.port()) {
        connection.send(&[byte]).unwrap();
    }
    assert_eq!(connection.reply().unwrap().status, 200);
}

#[test]
fn http_1_0_without_the_token_is_told_to_close_and_nothing_else() {
    let (_cloud, agent) = agent();
    let old = |request: &str| {
        request.replace("HTTP/1.1", "HTTP/1.0").replacen(
            "\r\n\r\n",
            "\r\nConnection: Keep-Alive\r\n\r\n",
            1,
        )
    };
    for (request, status) in [
        (PING, 200),
        ("GET /readyz HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 200),
        ("GET /metrics HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 200),
        (WRONG, 403),
        (FORWARDED, 400),
        ("GET /ping HTTP/1.1\r\nHost: evil\r\n\r\n", 403),
    ] {
        let mut connection = Connection::open(agent.port()).unwrap();
        connection.send(&fill(old(request), agent.port())).unwrap();
        let reply = connection.reply().unwrap();
        assert_eq!(reply.status, status, "{request}");
        // `header` panics when there are two.
        assert_eq!(reply.header("connection"), Some("close"), "{request}");
        assert_eq!(connection.end(), b"", "{request}");
    }
    let mut connection = Connection::open(agent.port()).unwrap();
    for _ in 0..3 {
        connection
            .send(&fill(old(&with_lines("")), agent.port()))
            .unwrap();
        let reply = connection.reply().unwrap();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("connection"), Some("keep-alive"), "{reply:?}");
    }
}

#[test]
fn a_client_that_has_closed_its_sending_side_gets_its_answer() {
    let (cloud, agent) = agent();
    cloud.put("slow", "value");
    let half_closed = |path: &str| {
        let mut connection = Connection::open(agent.port()).unwrap();
        let request = with_lines("").replace("/v1/s", path);
        connection.send(&fill(request, agent.port())).unwrap();
        connection.stream().shutdown(Shutdown::Write).unwrap();
        connection
    };
    let answered = |mut connection: Connection| {
        let reply = connection.reply().unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(connection.end(), b"");
    };
    cloud.fault(Fault::latency(Duration::from_secs(1))).unwrap();
    // A miss, then a hit, then a path without a token.
    let miss = half_closed("/v1/slow");
    wait_until("KMS is asked", || cloud.reads() == 1);
    answered(miss);
    answered(half_closed("/v1/slow"));
    answered(half_closed("/ping"));
    // The same when several requests came before the end.
    let mut two = Connection::open(agent.port()).unwrap();
    two.send(&fill(with_lines("").repeat(2), agent.port()))
        .unwrap();
    two.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(two.reply().unwrap().status, 200);
    answered(two);
}
