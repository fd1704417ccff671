//! Targets and headers at their limits and beyond.

use kms_agent_test_support::http::Connection;

use super::{Refused, Served, agent, expect, fill, with_lines};

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
        (65_535, long),
        (102_400, long),
    ] {
        let begin = "/secretsmanager/get?secretId=s";
        let target = format!("{begin}{}", "&".repeat(length - begin.len()));
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: localhost:PORT\r\nX-KMS-Token: TOKEN\r\n\r\n");
        expect(&agent, request, expected);
    }
    // The size is checked before the token.
    let target = format!("/v1/{}", "s".repeat(8189));
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n");
    expect(&agent, request, long);
}

#[test]
fn headers_may_be_100_and_have_65536_bytes() {
    let (_cloud, agent) = agent();
    let large = Refused(431, "HeadersTooLarge");
    // `Host` and the token are two of them.
    for (count, expected) in [(98, Served), (99, large), (198, large), (5000, large)] {
        expect(&agent, with_lines(&"X: y\r\n".repeat(count)), expected);
    }
    // Name, colon, blank, value, CR LF.
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
    // Beyond the parser's buffer.
    for kilobytes in [300, 1000] {
        let line = format!("X: {}\r\n", "y".repeat(kilobytes * 1000));
        expect(&agent, with_lines(&line), large);
    }
}

#[test]
fn a_head_of_more_than_16_kib_needs_the_token_first() {
    let (_cloud, agent) = agent();
    let large = Refused(431, "HeadersTooLarge");
    let long = Refused(414, "UriTooLong");
    let filler = |kib: usize| format!("X: {}\r\n", "y".repeat(kib * 1024));
    let head = |lines: &str| format!("GET /v1/s HTTP/1.1\r\nHost: localhost:PORT\r\n{lines}\r\n");
    for (lines, expected) in [
        (format!("X-KMS-Token: TOKEN\r\n{}", filler(60)), Served),
        (format!("x-vault-token:TOKEN\r\n{}", filler(60)), Served),
        (
            format!("{}X-KMS-Token: TOKEN\r\n{}", filler(10), filler(40)),
            Served,
        ),
        (format!("{}X-KMS-Token: TOKEN\r\n", filler(15)), Served),
        (format!("{}X-KMS-Token: TOKEN\r\n", filler(40)), large),
        (filler(40), large),
        (format!("X-KMS-Token: wrong\r\n{}", filler(40)), large),
        (format!("X-Other: TOKEN\r\n{}", filler(40)), large),
        (format!("X: X-KMS-Token: TOKEN\r\n{}", filler(40)), large),
    ] {
        expect(&agent, head(&lines), expected);
    }
    // Without a line break all bytes belong to a target.
    let target = format!(
        "GET /{} HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n",
        "s".repeat(40_000)
    );
    expect(&agent, target, long);
    // A connection that has shown the token may send more.
    let mut connection = Connection::open(agent.port()).unwrap();
    for lines in [
        "X-KMS-Token: TOKEN\r\n".to_owned(),
        format!("{}X-KMS-Token: TOKEN\r\n", filler(40)),
    ] {
        connection.send(&fill(head(&lines), agent.port())).unwrap();
        assert_eq!(connection.reply().unwrap().status, 200);
    }
}
