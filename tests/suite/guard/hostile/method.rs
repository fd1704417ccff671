//! Methods of the routes.

use kms_agent_test_support::http::{self, Connection};

use super::{Refused, agent, expect, fill};

/// Table of routes, which the server does not export.
const ROUTES: &str = include_str!("../../../../src/server/routes.rs");

/// Returns the methods and the path of every route.
fn routes() -> Vec<(&'static str, &'static str)> {
    let table = ROUTES.split_once("const ROUTES").expect("the table").1;
    let (table, _) = table.split_once("];").expect("the end of the table");
    let rows = table.split("\n    route(").skip(1);
    let routes: Vec<_> = rows
        .map(|row| {
            let methods = ["GET, HEAD", "GET", "POST"];
            let is_allowed = |methods: &&str| row.contains(&format!("\"{methods}\""));
            let allowed = methods.into_iter().find(is_allowed).expect(row);
            let path = match row.strip_prefix("RoutePath::Exact(\"") {
                Some(rest) => rest.split('"').next().expect("a path"),
                None if row.starts_with("RoutePath::BelowPrefix") => "/v1/s",
                None => "/secretsmanager/get",
            };
            (allowed, path)
        })
        .collect();
    assert!(routes.len() >= 8, "{routes:?}");
    routes
}

#[test]
fn every_other_method_is_405_and_told_which_one_to_use() {
    let (_cloud, agent) = agent();
    for (allowed, path) in routes() {
        for method in [
            "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "LIST", "get",
            "BREW",
        ] {
            if allowed.split(", ").any(|allowed| allowed == method) {
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
        "/agent/batch?secretId=s",
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

#[test]
fn head_on_a_health_path_is_answered_like_get_without_a_body() {
    let (_cloud, agent) = agent();
    for path in ["/ping", "/livez", "/readyz", "/metrics"] {
        let [get, head] = ["GET", "HEAD"].map(|method| {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n");
            let mut connection = Connection::open(agent.port()).unwrap();
            connection.send(&fill(request, agent.port())).unwrap();
            let reply = if method == "HEAD" {
                connection.reply_to_head().unwrap()
            } else {
                connection.reply().unwrap()
            };
            assert_eq!(connection.end(), b"", "{method} {path}");
            reply
        });
        assert_eq!(head.status, get.status, "{path}");
        for name in ["content-type", "cache-control", "connection"] {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
        assert!(head.header("content-length").is_some(), "{path}");
        let refused = format!("HEAD {path} HTTP/1.1\r\nHost: evil\r\n\r\n");
        let reply = http::send_head(agent.port(), refused.as_bytes()).unwrap();
        assert_eq!(reply.status, 403, "{path}");
    }
}

#[test]
fn wget_as_a_health_check_is_content() {
    let (_cloud, agent) = agent();
    let url = format!("http://127.0.0.1:{}/livez", agent.port());
    match std::process::Command::new("wget")
        .args(["--quiet", "--spider", "--tries=1", &url])
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .status()
    {
        Ok(status) => assert!(status.success(), "{status}"),
        Err(error) => eprintln!("skipped: there is no wget ({error})"),
    }
}
