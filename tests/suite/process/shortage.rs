//! Shortage of threads, descriptors and I/O: at startup the process exits with 1, later it recovers.

use std::process::{Command, id};
use std::thread;
use std::time::{Duration, Instant};

use kms_agent_test_support::{Setup, TestAgent, http};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use super::{LIMIT, is_root, wait_until_said};
use crate::harness::cloud::{BINARY, Cloud};

const PERSISTENT: &str = "[Cache]\nCacheType = \"Persistent\"\n";

/// Sets up an agent under a user of its own, with at most `threads` threads.
fn with_threads(setup: Setup, threads: u32) -> Setup {
    let user = user();
    setup.by(&format!(
        "cp \"$1\" binary; shift; chown -R {user}:{user} .; ulimit -Su {threads}; \
         exec setpriv --reuid={user} --regid={user} --clear-groups ./binary \"$@\""
    ))
}

/// Returns a user that no other test runs processes of.
fn user() -> u32 {
    20_000 + id() % 30_000
}

/// Sets the thread limit of a running agent.
fn limit_threads(agent: &TestAgent, threads: u32) {
    let user = user();
    let status = Command::new("setpriv")
        .args([&format!("--reuid={user}"), &format!("--regid={user}")])
        .args(["--clear-groups", "prlimit", &format!("--nproc={threads}:")])
        .args(["--pid", &agent.pid().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Expects the process to exit with 1 and a last line with the cause.
fn assert_fails(setup: Setup) -> String {
    let (status, said) = setup.run();
    assert_eq!(status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: "), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    assert!(!said.contains("RUST_BACKTRACE"), "{said}");
    last.to_owned()
}

/// Sets a soft limit of a running agent; `None` lifts it to the hard limit.
pub(super) fn limit(agent: &TestAgent, resource: Resource, current: Option<u64>) {
    let pid = i32::try_from(agent.pid()).ok().and_then(Pid::from_raw);
    let maximum = getrlimit(resource).maximum;
    let limit = Rlimit {
        current: current.or(maximum),
        maximum,
    };
    prlimit(pid, resource, limit).expect("the limit can be set");
}

pub(super) fn check_state(agent: &TestAgent, check: &str) -> String {
    let ready = http::get(agent.port(), "/readyz", &[]).json();
    ready["checks"][check]["state"].as_str().unwrap().to_owned()
}

pub(super) fn metric(agent: &TestAgent, series: &str) -> u64 {
    let reply = http::get(agent.port(), "/metrics", &[]);
    let text = reply.text();
    let value = text.lines().find_map(|line| line.strip_prefix(series));
    value.expect(series).trim().parse().unwrap()
}

pub(super) fn wait_until(agent: &TestAgent, what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(
            began.elapsed() < LIMIT,
            "still waiting: {what}\n{}",
            agent.stderr()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn threads_that_run_out_at_startup_end_it_with_1_whichever_thread_is_missing() {
    if !is_root() {
        return;
    }
    // The main thread, four workers, one for blocking work, the log, and two of the store.
    for threads in 1..9 {
        let setup = Setup::new(BINARY)
            .config(format!(
                "[Server]\nHttpPort = 0\nWorkerThreads = 4\n[Log]\nLogPath = \"\"\n{PERSISTENT}"
            ))
            .and_config("[KMS]\nRegion = \"cn-hangzhou\"\n");
        let line = assert_fails(with_threads(setup, threads));
        assert!(line.contains("TasksMax"), "{threads}: {line}");
    }
}

#[test]
fn io_errors_at_startup_end_it_with_1_and_touch_no_token() {
    // This file can be opened, and its first byte cannot be read.
    const UNREADABLE: &str = "/proc/self/mem";
    let config = Setup::new(BINARY).by(&format!("exec \"$1\" agent {UNREADABLE}"));
    let line = assert_fails(config);
    assert!(line.contains("Input/output error"), "{line}");

    let token = Setup::new(BINARY).env("KMS_TOKEN", format!("file://{UNREADABLE}"));
    let line = assert_fails(token);
    assert!(line.contains("Input/output error"), "{line}");
    assert!(!line.contains("alibabacloud-kms-agent token"), "{line}");
}

#[test]
fn descriptors_that_run_out_at_startup_end_it_with_1() {
    for descriptors in 4..9 {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, kms_agent_test_support::TOKEN).unwrap();
        let setup = Setup::new(BINARY)
            .config("[Server]\nHttpPort = 0\n[KMS]\nRegion = \"cn-hangzhou\"\n")
            .env("KMS_TOKEN", format!("file://{}", token.display()))
            .by(&format!("ulimit -n {descriptors}; exec \"$@\""));
        let line = assert_fails(setup);
        assert!(
            !line.contains("alibabacloud-kms-agent token"),
            "{descriptors}: {line}"
        );
    }
}

#[test]
fn a_reload_and_a_renewal_work_while_no_thread_can_be_started() {
    if !is_root() {
        return;
    }
    let cloud = Cloud::start();
    cloud.put("s", "value");
    // The token is a literal, so nothing else keeps a blocking thread alive.
    let agent = with_threads(cloud.setup(), 100).start();
    assert_eq!(agent.read("s").status, 200);
    limit_threads(&agent, 1);
    let config = agent.folder().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}[Cache]\nTtlSeconds = 77\n")).unwrap();
    agent.signal(Signal::HUP);
    wait_until_said(&agent, "The configuration was reloaded");
    assert_eq!(check_state(&agent, "tasks"), "ok");
}

#[test]
fn a_reload_during_a_shortage_is_logged_and_the_next_one_works() {
    if !is_root() {
        return;
    }
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let setup = cloud.setup().config(format!(
        "[Server]\nHttpPort = 0\n[Log]\nLogPath = \"./logs/\"\n\
         [KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\n",
        cloud.base_url()
    ));
    let agent = with_threads(setup, 100).start();
    // Another log file needs another writer thread, which cannot be started.
    limit_threads(&agent, 1);
    let config = agent.folder().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("./logs/", "./logs/other/")).unwrap();
    agent.signal(Signal::HUP);
    let log = agent.folder().join("logs/kms-agent.log");
    wait_until(&agent, "logged", || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.contains("ERROR") && log.contains("The log file could not be reopened")
    });
    assert_eq!(agent.read("s").status, 200);

    limit_threads(&agent, 100);
    agent.signal(Signal::HUP);
    let other = agent.folder().join("logs/other/kms-agent.log");
    wait_until(&agent, "reloaded", || {
        std::fs::read_to_string(&other).is_ok_and(|text| text.contains("was reloaded"))
    });
}

#[test]
fn a_stack_limit_that_is_too_low_is_named_instead_of_an_overflow() {
    let output = Command::new("sh")
        .args(["-c", "ulimit -Ss 128; exec \"$1\" --version", "sh", BINARY])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Raise it (ulimit -s, LimitSTACK=)"), "{said}");
}
