//! One method a route, and nothing else.

use kms_agent_test_support::http::{self, Connection};

use super::{Refused, agent, expect, fill};

/// Every route with its method.
const ROUTES: [(&str, &str); 8] = [
    ("GET", "/secretsmanager/get?secretId=s"),
    ("GET", "/v1/s"),
    ("GET", "/ping"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/agent/status"),
    ("POST", "/agent/purge?all=true"),
];

#[test]
fn every_other_method_is_405_and_told_which_one_to_use() {
    let (_cloud, agent) = agent();
    for (allowed, path) in ROUTES {
        for method in [
            "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "LIST", "get",
            "BREW",
        ] {
            if method == allowed {
                continue;
            }
            let lines = "Host: localhost:PORT\r\nX-KMS-Token: TOKEN\r\nX-Mark: echo\r\n";
            let request = format!("{method} {path} HTTP/1.1\r\n{lines}\r\n");
            let mut connection = Connection::open(agent.port()).unwrap();
            connection.send(&fill(request, agent.port())).unwrap();
            let name = format!("{method} {path}");
            let reply = if method == "HEAD" {
                connection.reply_to_head().unwrap()
            } else {
                let reply = connection.reply().unwrap();
                assert_eq!(reply.json()["Code"], "MethodNotAllowed", "{name}");
                assert!(!reply.text().contains("echo"), "{name}");
                reply
            };
            assert_eq!(reply.status, 405, "{name}");
            assert_eq!(reply.header("allow"), Some(allowed), "{name}");
            assert_eq!(reply.header("content-type"), Some("application/json"));
            connection
                .stream()
                .shutdown(std::net::Shutdown::Write)
                .unwrap();
            assert_eq!(connection.end(), b"", "{name}: nothing follows");
        }
    }
}

#[test]
fn without_the_token_every_method_is_refused_alike() {
    let (_cloud, agent) = agent();
    for path in [
        "/v1/s",
        "/nothing",
        "/agent/status",
        "/agent/purge?all=true",
    ] {
        for method in ["GET", "POST", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n");
            expect(&agent, request, Refused(403, "InvalidToken"));
        }
        let mut connection = Connection::open(agent.port()).unwrap();
        let request = format!("HEAD {path} HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n");
        connection.send(&fill(request, agent.port())).unwrap();
        assert_eq!(connection.reply_to_head().unwrap().status, 403);
        assert_eq!(connection.end(), b"");
    }
}

#[test]
fn head_is_405_where_there_is_nothing_too() {
    let (_cloud, agent) = agent();
    let request = "HEAD /nothing HTTP/1.1\r\nHost: localhost:PORT\r\nX-KMS-Token: TOKEN\r\n\r\n";
    let reply = http::send_head(agent.port(), &fill(request, agent.port())).unwrap();
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET")));
}
