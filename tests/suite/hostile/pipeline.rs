//! More than one request on a connection.

use kms_agent_test_support::http::Connection;

use super::{agent, fill, with_lines};

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
