//! The way to KMS, as the real binary goes it.

mod limit;
mod lookup;
mod proxy;
mod quantum;
mod question;
mod reuse;
mod tls;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use kms_agent_test_support::{Setup, TestAgent};

use crate::harness::cloud::Cloud;

/// An agent set up to ask `address` over TLS, trusting the anchors of `ca` too.
fn by_tls(cloud: &Cloud, address: SocketAddr, ca: &Path) -> Setup {
    cloud
        .setup_at(&format!("https://{address}"))
        .and_config(&format!("CaFile = \"{}\"\nMaxAttempts = 1\n", ca.display()))
}

/// Waits until the log of `agent`, which is written behind its back, says `text`.
fn until_told(agent: &TestAgent, text: &str) {
    let began = Instant::now();
    while !agent.stderr().contains(text) {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{text} is not in: {}",
            agent.stderr()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Reads until the copy has expired and is served all the same, because of `detail`.
fn until_stale(agent: &TestAgent, secret: &str, detail: &str) {
    let began = Instant::now();
    loop {
        let reply = agent.read(secret);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let status = reply.header("cache-status").unwrap_or_default();
        if status.contains("ttl=-") && status.contains(&format!("detail={detail}")) {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the copy does not expire: {status}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
