//! Log lines and metrics.

use std::time::{Duration, Instant};

use kms_agent_emulator::Fault;
use kms_agent_test_support::{TestAgent, http};

use crate::harness::cloud::Cloud;

/// Waits until the log has a line with all of `words`, and returns it.
fn line_with(agent: &TestAgent, words: &[&str]) -> String {
    let began = Instant::now();
    loop {
        let log = agent.stderr();
        if let Some(line) = log
            .lines()
            .find(|line| words.iter().all(|word| line.contains(word)))
        {
            return line.to_owned();
        }
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "no line with {words:?}:\n{log}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn refusals_are_logged_once_a_second_with_their_number() {
    let cloud = Cloud::start();
    let agent = cloud.setup().start();
    for _ in 0..200 {
        assert_eq!(http::get(agent.port(), "/v1/s", &[]).status, 403);
    }
    line_with(&agent, &["INFO", "Requests were refused", "InvalidToken"]);
    let (_, log) = agent.stop();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("Requests were refused"))
        .collect();
    let count: u64 = lines
        .iter()
        .map(|line| {
            let (_, count) = line.split_once("count=").unwrap();
            count
                .split_whitespace()
                .next()
                .unwrap()
                .parse::<u64>()
                .unwrap()
        })
        .sum();
    // All are counted, also those of the last second.
    assert_eq!(count, 200, "{lines:?}");
    assert!(lines.len() < 50, "{} lines", lines.len());
}

#[test]
fn a_long_name_is_cut_in_the_log_between_characters() {
    let cloud = Cloud::start();
    let agent = cloud.setup().start();
    // 1 + 2 × 200 bytes: byte 256 is inside a character.
    let name = format!("x{}", "%C3%A9".repeat(200));
    agent.read(&name);
    let line = line_with(&agent, &["access", "secret=\"x"]);
    assert!(
        line.contains(&format!("secret=\"x{}\"", "é".repeat(127))),
        "{line}"
    );
}

#[test]
fn reads_that_kms_could_not_answer_are_logged_at_info() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let setup = cloud
        .setup()
        .and_config("MaxAttempts = 1\n[Cache]\nTtlSeconds = 1\n");
    let agent = setup.start();
    assert_eq!(agent.read("s").status, 200);
    cloud
        .fault(Fault::status(503, "ServiceUnavailable"))
        .unwrap();
    let began = Instant::now();
    while !agent
        .read("s")
        .header("cache-status")
        .unwrap()
        .contains("ttl=-")
    {
        assert!(began.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(50));
    }
    let line = line_with(&agent, &["INFO", "expired copies"]);
    assert!(!line.contains("stale=0"), "{line}");
}

#[test]
fn every_metric_of_the_contract_is_there_from_the_first_scrape() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud.setup().start();
    assert_eq!(agent.read("s").status, 200);
    let reply = http::get(agent.port(), "/metrics", &[]);
    let text = reply.text();
    for series in [
        "kms_agent_requests_total{outcome=\"ok\"} 1",
        "kms_agent_cache_reads_total{result=\"hit\"} 0",
        "kms_agent_cache_reads_total{result=\"miss\"} 1",
        "kms_agent_cache_reads_total{result=\"stale\"} 0",
        "kms_agent_cache_reads_total{result=\"collapsed\"} 0",
        "kms_agent_cache_entries 1",
        "kms_agent_upstream_requests_total{result=\"ok\"} 1",
        "kms_agent_upstream_request_seconds_count 1",
        "kms_agent_store_bytes 0",
        "kms_agent_log_lines_dropped_total 0",
    ] {
        assert!(
            text.lines().any(|line| line == series),
            "{series} is not in\n{text}"
        );
    }
    for family in [
        "kms_agent_credentials_expiry_timestamp_seconds",
        "kms_agent_store_errors",
        "kms_agent_build",
    ] {
        assert!(
            text.contains(&format!("# TYPE {family} ")),
            "{family}:\n{text}"
        );
    }
}

/// Returns the number of lines of `log` with `text`, and the sum of their counts.
fn counted(log: &str, text: &str) -> (usize, u64) {
    let lines = log.lines().filter(|line| line.contains(text));
    lines.fold((0, 0), |(lines, sum), line| {
        let (_, count) = line.split_once(" count=").unwrap();
        let count = count.split_whitespace().next().unwrap();
        (lines + 1, sum + count.parse::<u64>().unwrap())
    })
}

#[test]
fn no_caller_chooses_how_many_lines_the_log_has() {
    let cloud = Cloud::start();
    let agent = cloud
        .setup()
        .and_config("MaxRequestsPerSecond = 100\nMaxAttempts = 1\n")
        .start();
    let began = Instant::now();
    // KMS refuses these names, and there are more of them than the agent may ask for.
    let wave = |prefix: &str| {
        std::thread::scope(|scope| {
            for part in 0..8 {
                let agent = &agent;
                scope.spawn(move || {
                    for n in 0..50 {
                        agent.read(&format!("{prefix}{part}-{n}"));
                    }
                });
            }
        });
    };
    wave("gone");
    cloud.fault(Fault::status(500, "InternalFailure")).unwrap();
    wave("failing");
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 3;
    let (_, log) = agent.stop();
    let (lines, refused) = counted(&log, "KMS refused a secret");
    assert!(
        (1..=seconds).contains(&lines),
        "{lines} lines in {seconds} s"
    );
    let failed = counted(&log, "Fetching a secret from KMS failed");
    assert!(failed.0 <= 3 * seconds, "{failed:?} in {seconds} s");
    assert!(refused <= 400 && refused > lines as u64, "{refused}");
    let line = log
        .lines()
        .find(|line| line.contains("KMS refused a secret"));
    let line = line.unwrap();
    assert!(line.contains("secret=") && line.contains("gone"), "{line}");
    assert!(line.contains("Forbidden.ResourceNotFound"), "{line}");
}

#[test]
fn a_read_that_ends_with_the_copy_is_no_failed_read() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud
        .setup()
        .and_config("MaxAttempts = 1\n[Cache]\nTtlSeconds = 1\nRefreshAhead = false\n")
        .start();
    assert_eq!(agent.read("s").status, 200);
    cloud.fault(Fault::status(500, "InternalFailure")).unwrap();
    let began = Instant::now();
    while !agent.stderr().contains("stale=") {
        assert_eq!(agent.read("s").status, 200);
        assert!(began.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(50));
    }
    let line = line_with(&agent, &["stale=", "failed="]);
    assert!(line.contains("failed=0"), "{line}");
}

#[test]
fn a_purge_leaves_a_line_with_what_it_dropped() {
    let cloud = Cloud::start();
    let agent = cloud.setup().start();
    for name in ["a", "b", "c"] {
        cloud.put(name, "value");
        agent.read(name);
    }
    let purge = |query: &str| {
        let port = agent.port();
        let token = kms_agent_test_support::TOKEN;
        let head = format!(
            "POST /agent/purge?{query} HTTP/1.1\r\nHost: localhost:{port}\r\nX-KMS-Token: {token}\r\nContent-Length: 0\r\n\r\n"
        );
        http::send(port, head.as_bytes()).unwrap()
    };
    assert_eq!(purge("secretId=a").status, 200);
    let line = line_with(&agent, &["INFO", "A secret was purged"]);
    assert!(line.contains("entries=1") && line.contains('a'), "{line}");
    assert_eq!(purge("all=true").status, 200);
    let line = line_with(&agent, &["INFO", "All secrets were purged"]);
    assert!(line.contains("entries=2"), "{line}");
}

#[test]
fn metrics_come_in_the_format_that_the_client_accepts() {
    let cloud = Cloud::start();
    let agent = cloud.setup().start();
    for (accept, kind, counter) in [
        (
            &[][..],
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# TYPE kms_agent_requests counter\n",
        ),
        (
            &[("Accept", "*/*")],
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# EOF\n",
        ),
        (
            &[("Accept", "text/plain;version=0.0.4;q=1,*/*;q=0.1")],
            "text/plain; version=0.0.4; charset=utf-8",
            "# TYPE kms_agent_requests_total counter\n",
        ),
    ] {
        let reply = http::get(agent.port(), "/metrics", accept);
        assert_eq!(reply.header("content-type"), Some(kind), "{accept:?}");
        assert!(reply.text().contains(counter), "{accept:?}");
        assert_eq!(
            reply.text().contains("# EOF"),
            kind.starts_with("application")
        );
    }
}
