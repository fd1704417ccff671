//! Malformed and unusual requests.

use super::{Healthy, Refused, RequestOutcome, Served, agent, expect, with_lines};

const INVALID: RequestOutcome = Refused(400, "InvalidRequest");

#[test]
fn only_a_path_is_a_target() {
    let (_cloud, agent) = agent();
    for (line, expected) in [
        ("GET http://localhost:PORT/v1/s", INVALID),
        ("GET http://localhost:PORT/ping", INVALID),
        ("GET http://evil.example/v1/s", INVALID),
        ("GET HTTPS://evil.example/", INVALID),
        ("GET ftp://evil.example/v1/s", INVALID),
        ("GET localhost:PORT", INVALID),
        ("CONNECT localhost:PORT", INVALID),
        ("CONNECT evil.example:443", INVALID),
        ("CONNECT /v1/s", INVALID),
        ("OPTIONS *", Refused(404, "UnknownPath")),
        ("GET *", Refused(404, "UnknownPath")),
        ("GET //v1/s", Refused(404, "UnknownPath")),
        ("GET //evil.example/v1/s", Refused(404, "UnknownPath")),
        ("GET /x/../v1/s", Refused(404, "UnknownPath")),
        ("GET /%76%31/s", Refused(404, "UnknownPath")),
        ("GET /V1/s", Refused(404, "UnknownPath")),
        ("GET /v1", Refused(404, "UnknownPath")),
        ("GET /", Refused(404, "UnknownPath")),
        ("GET /v1/s#fragment", Served),
        ("GET /v1/%73", Served),
        ("GET v1/s", INVALID),
        ("GET \\v1\\s", INVALID),
        ("GET", INVALID),
        ("GET ", INVALID),
    ] {
        expect(
            &agent,
            format!("{line} HTTP/1.1\r\nHost: localhost:PORT\r\nX-KMS-Token: TOKEN\r\n\r\n"),
            expected,
        );
    }
    let without = "OPTIONS * HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n";
    expect(&agent, without, Refused(403, "InvalidToken"));
}

#[test]
fn parameters_are_known_whole_and_present_once() {
    let (_cloud, agent) = agent();
    let invalid = Refused(400, "InvalidParameter");
    for (query, expected) in [
        ("", Served),
        ("&&", Served),
        ("field", invalid),
        ("field=", invalid),
        ("field=a", invalid),
        ("field=a&field=a", invalid),
        ("field=%", invalid),
        ("field=%FF", invalid),
        ("field=%00", invalid),
        ("Field=a", invalid),
        ("format", invalid),
        ("format=", invalid),
        ("format=Value", invalid),
        ("format=value%00", invalid),
        ("format=value,value", invalid),
        ("format=value&format=value", invalid),
        ("format=value&field=..", invalid),
    ] {
        let request = with_lines("").replace("/v1/s", &format!("/v1/s?{query}"));
        expect(&agent, &request, expected);
    }
}

#[test]
fn a_body_is_refused_however_it_is_announced() {
    let (_cloud, agent) = agent();
    let chunk = "\r\n1\r\nx\r\n0\r\n";
    for (lines, expected) in [
        ("Content-Length: 0\r\n", Served),
        ("Content-Length: 0\r\nContent-Length: 0\r\n", Served),
        ("Content-Length: 1\r\n\r\nx", INVALID),
        ("Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", INVALID),
        ("Content-Length: 00\r\n", INVALID),
        ("Content-Length: 9999999999\r\n", INVALID),
        ("Content-Length: 5\r\nExpect: 100-continue\r\n", INVALID),
        ("Content-Length: 0\r\nContent-Length: 1\r\n\r\nx", INVALID),
        ("Content-Length: 0, 0\r\n", INVALID),
        ("Content-Length: -1\r\n", INVALID),
        ("Content-Length: +1\r\n", INVALID),
        ("Content-Length: 0x1\r\n", INVALID),
        ("Content-Length: one\r\n", INVALID),
        ("Content-Length:\r\n", INVALID),
        ("Content-Length: 99999999999999999999999\r\n", INVALID),
        (&format!("Transfer-Encoding: chunked\r\n{chunk}"), INVALID),
        (&format!("transfer-encoding: CHUNKED\r\n{chunk}"), INVALID),
        (
            &format!("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n{chunk}"),
            INVALID,
        ),
        (
            &format!("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n{chunk}"),
            INVALID,
        ),
        (
            &format!("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n{chunk}"),
            INVALID,
        ),
        (
            &format!("Transfer-Encoding: gzip, chunked\r\n{chunk}"),
            INVALID,
        ),
        (
            &format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n{chunk}"),
            INVALID,
        ),
        ("Transfer-Encoding: chunked\r\n\r\nnot a chunk", INVALID),
        ("Transfer-Encoding: identity\r\n", INVALID),
        ("Transfer-Encoding: gzip\r\n", INVALID),
        ("Transfer-Encoding: chunked, identity\r\n", INVALID),
        ("Transfer-Encoding:\r\n", INVALID),
    ] {
        expect(&agent, with_lines(lines), expected);
    }
    for (lines, expected) in [
        ("Transfer-Encoding: chunked\r\n", INVALID),
        ("Content-Length: 1\r\n\r\nx", INVALID),
        ("Content-Length: 0\r\n", Served),
    ] {
        expect(
            &agent,
            with_lines(lines).replace("HTTP/1.1", "HTTP/1.0"),
            expected,
        );
    }
}

#[test]
fn lines_that_are_no_header_lines_end_the_connection() {
    let (_cloud, agent) = agent();
    for (lines, expected) in [
        ("X: a\r\n folded\r\n", INVALID),
        ("X: a\r\n\tfolded\r\n", INVALID),
        (" X: a\r\n", INVALID),
        ("X : a\r\n", INVALID),
        ("X\r\n", INVALID),
        (": a\r\n", INVALID),
        ("X Y: a\r\n", INVALID),
        ("X(): a\r\n", INVALID),
        ("X: a\rb\r\n", INVALID),
        ("X: a\0b\r\n", INVALID),
        ("X\0: a\r\n", INVALID),
        ("X: \x1b[31m\r\n", INVALID),
        ("X: \x7f\r\n", INVALID),
        ("X:a\r\n", Served),
        ("X:\r\n", Served),
        ("X: a\tb\r\n", Served),
        ("X: ä\r\n", Served),
    ] {
        expect(&agent, with_lines(lines), expected);
    }
    let invalid_utf8 = with_lines("X: BAD\r\n").replace("BAD", "\u{1}");
    let bytes: Vec<u8> = invalid_utf8
        .bytes()
        .map(|byte| if byte == 1 { 0xFF } else { byte })
        .collect();
    expect(&agent, bytes, Served);
    // Many clients end a line with LF, and no proxy in between could read it in another way.
    expect(&agent, with_lines("").replace("\r\n", "\n"), Served);
    expect(
        &agent,
        with_lines("X: a\nVia: b\r\n"),
        Refused(400, "ForwardedRequest"),
    );
    expect(&agent, format!("\r\n\r\n{}", with_lines("")), Served);
}

#[test]
fn bytes_that_no_target_holds_are_refused() {
    let (_cloud, agent) = agent();
    let parameter = Refused(400, "InvalidParameter");
    for (target, expected) in [
        (&b"/v1/s\0"[..], INVALID),
        (b"/v1/\x01s", INVALID),
        (b"/v1/\xFF", INVALID),
        (b"/v1/s?versionId=\xC3\x28", INVALID),
        (b"/v1/\x7F", INVALID),
        (b"/v1/s x", INVALID),
        (b"/v1/s\tx", INVALID),
        (b"/v1/%00", parameter),
        (b"/v1/a%0D%0AX:y", parameter),
        (b"/v1/%FF", parameter),
        (b"/v1/%C0%AF", parameter),
        (b"/v1/%ED%A0%80", parameter),
        (b"/v1/%", parameter),
        (b"/v1/%5", parameter),
        (b"/v1/%5g", parameter),
        (b"/secretsmanager/get?secretId=%00", parameter),
        (b"/secretsmanager/get?secretId=s%7F", parameter),
        (b"/secretsmanager/get?secretId=s&secretId=s", parameter),
        (b"/secretsmanager/get?secretId=s&x", parameter),
        (b"/secretsmanager/get?secretId=s&s%65cretId=s", parameter),
        (b"/secretsmanager/get?%73ecretId=s", Served),
    ] {
        let request = [
            b"GET ",
            target,
            b" HTTP/1.1\r\nHost: localhost:PORT\r\nX-KMS-Token: TOKEN\r\n\r\n",
        ]
        .concat();
        expect(&agent, request, expected);
    }
}

#[test]
fn an_id_may_have_512_bytes() {
    let (_cloud, agent) = agent();
    for (id, goes_to_kms) in [
        ("s".repeat(512), true),
        ("s".repeat(513), false),
        ("%C3%A4".repeat(256), true),
        ("%C3%A4".repeat(257), false),
    ] {
        for target in [
            format!("/v1/{id}"),
            format!("/secretsmanager/get?secretId={id}"),
        ] {
            let reply = agent.get(&target);
            assert!(reply.status >= 400, "{target}");
            // A refusal by KMS has its request id.
            let by_kms = reply.json()["RequestId"].is_string();
            assert_eq!(by_kms, goes_to_kms, "{target}: {}", reply.text());
        }
    }
}

#[test]
fn other_protocols_are_not_spoken() {
    let (_cloud, agent) = agent();
    for (version, expected) in [
        ("HTTP/1.1", Served),
        ("HTTP/1.0", Served),
        ("HTTP/1.2", INVALID),
        ("HTTP/0.9", INVALID),
        ("HTTP/2.0", INVALID),
        ("HTTP/3", INVALID),
        ("http/1.1", INVALID),
        ("HTTP/1.1 ", INVALID),
        ("HTTP/11.1", INVALID),
        ("ICAP/1.0", INVALID),
        ("", INVALID),
    ] {
        expect(
            &agent,
            with_lines("").replace("HTTP/1.1", version),
            expected,
        );
    }
    for (bytes, expected) in [
        (&b"GET /v1/s\r\n\r\n"[..], INVALID),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", INVALID),
        (b"PRI * HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", Refused(403, "InvalidToken")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", INVALID),
        (b"SSH-2.0-OpenSSH_9.9\r\n", INVALID),
        (b"*1\r\n$4\r\nPING\r\n", INVALID),
        (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET /ping HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", INVALID),
        (b"\0\0\0\0", INVALID),
    ] {
        expect(&agent, bytes, expected);
    }
    // An offer to upgrade is ignored.
    for lines in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n",
        "Upgrade: TLS/1.0\r\n",
    ] {
        expect(&agent, with_lines(lines), Served);
    }
    let ping = "GET /ping HTTP/1.0\r\nHost: localhost:PORT\r\n\r\n";
    expect(&agent, ping, Healthy);
    let no_host = "GET /ping HTTP/1.0\r\n\r\n";
    expect(&agent, no_host, INVALID);
}
