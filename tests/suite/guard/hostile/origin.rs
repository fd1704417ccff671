//! Proxies, rebound names and web pages, and the order of the checks.

use super::{Healthy, Refused, Served, agent, expect, with_lines};

#[test]
fn forwarded_requests_are_refused_whatever_else_they_carry() {
    let (_cloud, agent) = agent();
    for line in [
        "X-Forwarded-For: 10.0.0.1",
        "x-forwarded-for: 127.0.0.1",
        "X-FORWARDED-FOR:",
        "X-Forwarded-Host: localhost",
        "X-Forwarded-Proto: http",
        "Forwarded: for=127.0.0.1;proto=http",
        "Via: 1.1 proxy",
        "X-Real-IP: 127.0.0.1",
        "X-Forwarded-Port: 80",
        "X-Forwarded-Prefix: /",
        "X-Forwarded-Client-Cert: Hash=0",
        "X-Original-URL: /",
        "X-Original-Forwarded-For: 10.0.0.1",
        "X-Client-IP: 10.0.0.1",
        "X-Cluster-Client-IP: 10.0.0.1",
        "True-Client-IP: 10.0.0.1",
        "CF-Connecting-IP: 10.0.0.1",
        "CF-Ray: 1",
        "Ali-CDN-Real-IP: 10.0.0.1",
        "Via: 1.1 a\r\nVia: 1.1 b",
    ] {
        let expected = Refused(400, "ForwardedRequest");
        expect(&agent, with_lines(&format!("{line}\r\n")), expected);
        let health = format!("GET /ping HTTP/1.1\r\nHost: localhost:PORT\r\n{line}\r\n\r\n");
        expect(&agent, health, expected);
    }
    for line in ["X-Forward: 80", "X-Request-Id: 1", "Connection: Via"] {
        expect(&agent, with_lines(&format!("{line}\r\n")), Served);
    }
}

#[test]
fn only_loopback_names_with_the_right_port_are_answered() {
    let (_cloud, agent) = agent();
    let forbidden = Refused(403, "ForbiddenHost");
    for (host, expected) in [
        ("localhost:PORT", None),
        ("LOCALHOST:PORT", None),
        ("LocalHost:PORT", None),
        ("127.0.0.1:PORT", None),
        ("[::1]:PORT", None),
        ("  localhost:PORT\t", None),
        ("", Some(forbidden)),
        (":PORT", Some(forbidden)),
        ("localhost", Some(forbidden)),
        ("localhost:", Some(forbidden)),
        ("localhost:80", Some(forbidden)),
        ("localhost:0PORT", Some(forbidden)),
        ("localhost:+PORT", Some(forbidden)),
        ("localhost:PORT1", Some(forbidden)),
        ("localhost:PORT:PORT", Some(forbidden)),
        ("localhost.:PORT", Some(forbidden)),
        ("localhost.evil.example:PORT", Some(forbidden)),
        ("evil.example:PORT", Some(forbidden)),
        ("evil.example", Some(forbidden)),
        ("127.0.0.1.evil:PORT", Some(forbidden)),
        ("127.0.0.1.:PORT", Some(forbidden)),
        ("127.0.0.2:PORT", Some(forbidden)),
        ("127.1:PORT", Some(forbidden)),
        ("0.0.0.0:PORT", Some(forbidden)),
        ("2130706433:PORT", Some(forbidden)),
        ("0x7f000001:PORT", Some(forbidden)),
        ("[::1]", Some(forbidden)),
        ("::1:PORT", Some(forbidden)),
        ("[::]:PORT", Some(forbidden)),
        ("[::1%25lo]:PORT", Some(forbidden)),
        ("[::ffff:127.0.0.1]:PORT", Some(forbidden)),
        ("[0:0:0:0:0:0:0:1]:PORT", None),
        ("[0000:0000:0000:0000:0000:0000:0000:0001]:PORT", None),
        ("[0:0:0:0:0:0:0:1]", Some(forbidden)),
        ("[0:0:0:0:0:0:0:1]:80", Some(forbidden)),
        ("[0:0:0:0:0:0:0:2]:PORT", Some(forbidden)),
        ("[127.0.0.1]:PORT", Some(forbidden)),
        ("user@localhost:PORT", Some(forbidden)),
        ("http://localhost:PORT", Some(forbidden)),
        ("localhost:PORT, evil.example", Some(forbidden)),
        ("localhost:PORT/", Some(forbidden)),
    ] {
        for (line, good) in [
            ("/v1/s HTTP/1.1\r\nX-KMS-Token: TOKEN", Served),
            ("/ping HTTP/1.1", Healthy),
        ] {
            expect(
                &agent,
                format!("GET {line}\r\nHost: {host}\r\n\r\n"),
                expected.unwrap_or(good),
            );
        }
    }
    let invalid = Refused(400, "InvalidRequest");
    for hosts in [
        "",
        "Host: localhost:PORT\r\nHost: localhost:PORT\r\n",
        "Host: localhost:PORT\r\nhost: evil.example\r\n",
        "Host: evil.example\r\nHost: localhost:PORT\r\n",
    ] {
        expect(
            &agent,
            format!("GET /v1/s HTTP/1.1\r\n{hosts}X-KMS-Token: TOKEN\r\n\r\n"),
            invalid,
        );
        expect(
            &agent,
            format!("GET /livez HTTP/1.1\r\n{hosts}\r\n"),
            invalid,
        );
    }
}

#[test]
fn web_pages_are_refused_their_own_origin_too() {
    let (_cloud, agent) = agent();
    let forbidden = Refused(403, "ForbiddenOrigin");
    for (lines, expected) in [
        ("Origin: http://localhost:PORT\r\n", forbidden),
        ("Origin: https://evil.example\r\n", forbidden),
        ("origin: null\r\n", forbidden),
        ("Origin:\r\n", forbidden),
        ("Sec-Fetch-Site: cross-site\r\n", forbidden),
        ("Sec-Fetch-Site: same-site\r\n", forbidden),
        ("sec-fetch-site: same-origin\r\n", forbidden),
        ("Sec-Fetch-Site:\r\n", forbidden),
        ("Sec-Fetch-Site: none, cross-site\r\n", forbidden),
        (
            "Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n",
            forbidden,
        ),
        ("Sec-Fetch-Site: none\r\n", Served),
        (
            "Sec-Fetch-Mode: cors\r\nReferer: http://evil.example/\r\n",
            Served,
        ),
    ] {
        expect(&agent, with_lines(lines), expected);
        let health = if expected == Served {
            Healthy
        } else {
            expected
        };
        expect(
            &agent,
            format!("GET /metrics HTTP/1.1\r\nHost: localhost:PORT\r\n{lines}\r\n"),
            health,
        );
    }
}

#[test]
fn the_checks_come_in_their_order() {
    let (_cloud, agent) = agent();
    // Each request fails the expected check and every later one.
    for (lines, expected) in [
        (
            "Content-Length: 1\r\nVia: x\r\nHost: evil\r\nOrigin: x\r\n",
            Refused(400, "InvalidRequest"),
        ),
        (
            "Via: x\r\nHost: evil\r\nOrigin: x\r\n",
            Refused(400, "ForwardedRequest"),
        ),
        ("Via: x\r\n", Refused(400, "ForwardedRequest")),
        ("Host: evil\r\nOrigin: x\r\n", Refused(403, "ForbiddenHost")),
        ("Origin: x\r\n", Refused(400, "InvalidRequest")),
        (
            "Host: localhost:PORT\r\nOrigin: x\r\n",
            Refused(403, "ForbiddenOrigin"),
        ),
        ("Host: localhost:PORT\r\n", Refused(403, "InvalidToken")),
        (
            "Host: localhost:PORT\r\nX-KMS-Token: TOKEN\r\n",
            Refused(404, "UnknownPath"),
        ),
    ] {
        let request = format!("POST /nothing?x=% HTTP/1.1\r\n{lines}\r\n");
        expect(&agent, request, expected);
    }
    for (line, expected) in [
        ("POST /v1/?x=%", Refused(405, "MethodNotAllowed")),
        ("GET /v1/?x=%", Refused(400, "InvalidParameter")),
        ("GET /v1/", Refused(400, "MissingParameter")),
    ] {
        let request =
            format!("{line} HTTP/1.1\r\nHost: localhost:PORT\r\nX-KMS-Token: TOKEN\r\n\r\n");
        expect(&agent, request, expected);
    }
}

#[test]
fn a_header_that_the_operator_chose_for_the_token_is_not_a_proxys() {
    let cloud = crate::harness::cloud::Cloud::start();
    cloud.put("s", "value");
    let agent = cloud
        .setup()
        .config(format!(
            "[Server]\nHttpPort = 0\nSSRFHeaders = [\"X-Original-Token\", \"X-Client-IP\"]\n[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\n[Log]\nLogPath = \"\"\n",
            cloud.base_url()
        ))
        .start();
    for (lines, expected) in [
        ("X-Original-Token: TOKEN", Served),
        ("X-Client-IP: TOKEN", Served),
        ("X-Client-IP: 10.0.0.1", Refused(403, "InvalidToken")),
        (
            "X-Client-IP: TOKEN\r\nX-Original-Host: x",
            Refused(400, "ForwardedRequest"),
        ),
    ] {
        let request = format!("GET /v1/s HTTP/1.1\r\nHost: localhost:PORT\r\n{lines}\r\n\r\n");
        expect(&agent, request, expected);
    }
}
