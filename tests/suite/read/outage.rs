//! Answers to readers while KMS fails.

use std::time::{Duration, Instant};

use kms_agent_emulator::{Fault, FaultKind};
use kms_agent_test_support::{Setup, TestAgent};

use crate::harness::cloud::Cloud;

fn with_short_ttl(setup: Setup) -> TestAgent {
    setup
        .and_config("ConnectTimeoutMs = 500\nRequestTimeoutMs = 500\nMaxAttempts = 1\n[Cache]\nTtlSeconds = 1\nRefreshAhead = false\n")
        .start()
}

/// Reads until the cached entry has expired.
fn read_expired(agent: &TestAgent) -> kms_agent_test_support::http::Reply {
    let began = Instant::now();
    loop {
        let reply = agent.read("s");
        let status = reply.header("cache-status").map(str::to_owned);
        if !status.is_some_and(|status| status.contains("hit; ttl=") && !status.contains("ttl=-")) {
            return reply;
        }
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the copy never expires"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_expired_copy_is_served_and_marked_whatever_kms_does() {
    for (fault, detail) in [
        (Fault::status(500, "InternalFailure"), "InternalFailure"),
        (
            Fault::status(503, "ServiceUnavailableTemporary"),
            "ServiceUnavailableTemporary",
        ),
        (
            Fault::status(429, "Rejected.Throttling"),
            "Rejected.Throttling",
        ),
        (Fault::status(400, "Throttling.User"), "Throttling.User"),
        (Fault::new(FaultKind::Throttle), "Rejected.Throttling"),
        (Fault::new(FaultKind::Garbage), "InvalidUpstreamAnswer"),
        (Fault::new(FaultKind::Cut), "KmsUnavailable"),
        (Fault::new(FaultKind::CutMidBody), "KmsUnavailable"),
        (Fault::new(FaultKind::Hang), "UpstreamTimeout"),
        (Fault::new(FaultKind::Oversize), "InvalidUpstreamAnswer"),
        (Fault::new(FaultKind::Redirect), "InvalidUpstreamAnswer"),
        (
            Fault::status(409, "Rejected.Unavailable"),
            "Rejected.Unavailable",
        ),
        (Fault::status(403, "Forbidden.InDebt"), "Forbidden.InDebt"),
        (
            Fault::status(403, "Forbidden.InDebtOverdue"),
            "Forbidden.InDebtOverdue",
        ),
        (
            Fault::status(403, "Forbidden.KmsServiceNotEnabled"),
            "Forbidden.KmsServiceNotEnabled",
        ),
    ] {
        let cloud = Cloud::start();
        cloud.put("s", "value");
        let agent = with_short_ttl(cloud.setup());
        assert_eq!(agent.read("s").status, 200);
        let name = format!("{fault:?}");
        cloud.fault(fault).unwrap();
        let stale = read_expired(&agent);
        assert_eq!(stale.status, 200, "{name}: {}", stale.text());
        assert_eq!(stale.json()["SecretData"], "value");
        let status = stale.header("cache-status").unwrap();
        assert!(
            status.starts_with("kms-agent; fwd=stale; ttl=-")
                && status.contains(&format!("; detail={detail}")),
            "{name}: {status}"
        );
        let again = agent.read("s");
        let status = again.header("cache-status").unwrap();
        assert!(
            status.starts_with("kms-agent; hit; ttl=-"),
            "{name}: {status}"
        );

        // Once KMS answers again the agent renews the entry by itself.
        cloud.clear_faults();
        cloud.put("s", "new");
        let began = Instant::now();
        while agent.read("s").json()["SecretData"] != "new" {
            assert!(
                began.elapsed() < Duration::from_mins(1),
                "{name}: it never recovers"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn without_a_copy_the_failure_is_told_by_its_own_status() {
    for (fault, status, code) in [
        (
            Fault::status(500, "InternalFailure"),
            500,
            "InternalFailure",
        ),
        (
            Fault::status(503, "ServiceUnavailableTemporary"),
            503,
            "ServiceUnavailableTemporary",
        ),
        (
            Fault::status(429, "Rejected.Throttling"),
            503,
            "KmsThrottled",
        ),
        (Fault::status(400, "Throttling.User"), 503, "KmsThrottled"),
        (Fault::new(FaultKind::Garbage), 502, "InvalidUpstreamAnswer"),
        (Fault::new(FaultKind::Cut), 503, "KmsUnavailable"),
        (Fault::new(FaultKind::Hang), 504, "UpstreamTimeout"),
        (
            Fault::status(403, "Forbidden.InDebt"),
            403,
            "Forbidden.InDebt",
        ),
    ] {
        let cloud = Cloud::start();
        cloud.put("s", "value");
        let name = format!("{fault:?}");
        cloud.fault(fault).unwrap();
        let agent = with_short_ttl(cloud.setup());
        let reply = agent.read("s");
        assert_eq!(
            (reply.status, reply.json()["Code"].as_str()),
            (status, Some(code)),
            "{name}"
        );
        assert_eq!(
            reply.header("retry-after").is_some(),
            code == "KmsThrottled",
            "{name}"
        );
        assert!(!reply.text().contains("value"));
    }
}

#[test]
fn a_deleted_secret_is_gone_from_the_cache_too() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = with_short_ttl(cloud.setup());
    agent.read("s");
    assert!(cloud.delete_secret("s"));
    let gone = agent.read("s&refreshNow=1");
    assert_eq!(
        (gone.status, gone.json()["Code"].as_str()),
        (404, Some("Forbidden.ResourceNotFound"))
    );
    assert_eq!(agent.read("s").status, 404);
}
