//! Targets and headers at their bounds and beyond.

use super::{Refused, Served, Unread, agent, expect, with_lines};

#[test]
fn a_target_may_have_8192_bytes() {
    let (_cloud, agent) = agent();
    let long = Refused(414, "UriTooLong");
    for (length, expected) in [
        (8191, Served),
        (8192, Served),
        (8193, long),
        (20_000, long),
        (65_534, long),
        (65_535, Unread(414)),
        (102_400, Unread(414)),
    ] {
        let begin = "/secretsmanager/get?secretId=s";
        let target = format!("{begin}{}", "&".repeat(length - begin.len()));
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: localhost:PORT\r\nX-KMS-Token: TOKEN\r\n\r\n");
        expect(&agent, request, expected);
    }
    // The size comes before the token.
    let target = format!("/v1/{}", "s".repeat(8189));
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n");
    expect(&agent, request, long);
}

#[test]
fn headers_may_be_100_and_have_65536_bytes() {
    let (_cloud, agent) = agent();
    // `Host` and the token are two.
    for (count, expected) in [
        (98, Served),
        (99, Unread(431)),
        (198, Unread(431)),
        (5000, Unread(431)),
    ] {
        expect(&agent, with_lines(&"X: y\r\n".repeat(count)), expected);
    }
    let large = Refused(431, "HeadersTooLarge");
    // As on the wire: name, colon, blank, value, CR LF.
    let others = format!("Host: localhost:{}\r\n", agent.port()).len()
        + "X-KMS-Token: \r\n".len()
        + kms_agent_test_support::TOKEN.len()
        + "X: \r\n".len();
    for (bytes, expected) in [
        (65_535, Served),
        (65_536, Served),
        (65_537, large),
        (102_400, large),
    ] {
        let line = format!("X: {}\r\n", "y".repeat(bytes - others));
        expect(&agent, with_lines(&line), expected);
    }
    let half = format!("X: {}\r\n", "y".repeat(40_000));
    expect(&agent, with_lines(&half.repeat(2)), large);
    // Beyond what the parser takes in.
    for kilobytes in [300, 1000] {
        let line = format!("X: {}\r\n", "y".repeat(kilobytes * 1000));
        expect(&agent, with_lines(&line), Unread(431));
    }
}
