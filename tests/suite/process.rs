//! The process as the system sees it: confinement, limits, shortages and surroundings.

mod confinement;
mod file_limit;
mod limits;
mod orphans;
mod shortage;
mod surroundings;

pub(crate) use self::confinement::{WITHOUT_LANDLOCK, kernel_confines};
pub(crate) use self::limits::{SWAP, WITHOUT_SECCOMP, with_swap};

use std::time::{Duration, Instant};

use kms_agent_test_support::TestAgent;

/// Limit for things that happen soon unless something hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits until the agent's log contains `text`.
fn wait_until_said(agent: &TestAgent, text: &str) {
    let began = Instant::now();
    while !agent.stderr().contains(text) {
        assert!(
            began.elapsed() < LIMIT,
            "no {text:?} in:\n{}",
            agent.stderr()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns whether this test runs as root; CI must.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none(), "CI runs as root");
        eprintln!("skipped: only root may make these surroundings");
    }
    root
}

/// Returns a field of `/proc/<pid>/status`.
fn status_of(pid: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    field_of(&status, field)
}

fn field_of(status: &str, field: &str) -> String {
    let mut values = status
        .lines()
        .filter_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    values.next().expect(field).trim().to_owned()
}
