//! The way to KMS, as the real binary goes it.

mod limit;
mod lookup;
mod proxy;
mod quantum;
mod reuse;
mod tls;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use kms_agent_test_support::{Setup, TestAgent};

use crate::cloud::Cloud;

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
