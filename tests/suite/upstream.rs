//! Connections to KMS: names, TLS, proxies, reuse, limits.

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

/// Sets up an agent that calls `address` over TLS and also trusts `ca`.
fn by_tls(cloud: &Cloud, address: SocketAddr, ca: &Path) -> Setup {
    cloud
        .setup_at(&format!("https://{address}"))
        .and_config(&format!("CaFile = \"{}\"\nMaxAttempts = 1\n", ca.display()))
}

/// Waits until the log of `agent` contains `text`.
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

/// Reads until the cached entry has expired and is served stale, because of `detail`.
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
