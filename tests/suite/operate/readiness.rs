//! `/readyz` and the gauges of the same checks: 200 means that secrets can be read.

use std::thread;
use std::time::{Duration, Instant};

use kms_agent_emulator::{Fault, FaultKind};
use kms_agent_test_support::{Setup, TestAgent, http};

use crate::harness::cloud::{BINARY, Cloud};

const HASTY: &str = "ConnectTimeoutMs = 500\nRequestTimeoutMs = 500\nMaxAttempts = 1\n";

fn status(agent: &TestAgent) -> u16 {
    http::get(agent.port(), "/readyz", &[]).status
}

fn state(agent: &TestAgent, check: &str) -> String {
    let ready = http::get(agent.port(), "/readyz", &[]).json();
    ready["checks"][check]["state"].as_str().unwrap().to_owned()
}

fn gauge(agent: &TestAgent, check: &str) -> u64 {
    let reply = http::get(agent.port(), "/metrics", &[]);
    let series = format!("kms_agent_check_state{{check=\"{check}\"}}");
    let text = reply.text();
    let value = text.lines().find_map(|line| line.strip_prefix(&series));
    value.expect(&series).trim().parse().unwrap()
}

fn wait_until(agent: &TestAgent, what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "still waiting: {what}\n{}\n{}",
            http::get(agent.port(), "/readyz", &[]).text(),
            agent.stderr()
        );
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_agent_without_readers_becomes_ready_by_one_call() {
    let cloud = Cloud::start();
    let agent = cloud.setup().start();
    assert_eq!(cloud.reads(), 0);
    wait_until(&agent, "ready", || status(&agent) == 200);
    for _ in 0..10 {
        assert_eq!(status(&agent), 200);
    }
    assert_eq!(cloud.reads(), 1, "{:?}", cloud.calls());
}

#[test]
fn an_agent_whose_key_kms_refuses_is_not_ready_until_it_is_accepted() {
    let cloud = Cloud::start();
    let id = cloud.access_key().id().to_owned();
    assert!(cloud.set_access_key_enabled(&id, false));
    let agent = cloud.setup().and_config(HASTY).start();
    wait_until(&agent, "failed", || {
        state(&agent, "credentials") == "failed"
    });
    for _ in 0..50 {
        assert_eq!(status(&agent), 503);
    }
    // A probe and its retry after a renewal, at growing intervals, and not one for each request.
    assert!(cloud.reads() < 10, "{} calls", cloud.reads());
    assert_eq!(gauge(&agent, "credentials"), 2);
    assert!(cloud.set_access_key_enabled(&id, true));
    wait_until(&agent, "ready", || status(&agent) == 200);
    assert_eq!(gauge(&agent, "credentials"), 0);
}

#[test]
fn an_agent_that_has_never_reached_kms_is_not_ready_until_it_does() {
    let cloud = Cloud::start();
    cloud.fault(Fault::new(FaultKind::Cut)).unwrap();
    let agent = cloud.setup().and_config(HASTY).start();
    wait_until(&agent, "failed", || state(&agent, "upstream") == "failed");
    assert_eq!(status(&agent), 503);
    assert_eq!(gauge(&agent, "upstream"), 2);
    cloud.clear_faults();
    wait_until(&agent, "ready", || status(&agent) == 200);
    assert_eq!(gauge(&agent, "upstream"), 0);
    // From now on an outage is transient.
    cloud.fault(Fault::new(FaultKind::Cut)).unwrap();
    assert_eq!(agent.read("s").status, 503);
    assert_eq!((status(&agent), gauge(&agent, "upstream")), (200, 1));
}

#[test]
fn a_kms_that_does_not_answer_delays_no_health_probe() {
    let cloud = Cloud::start();
    cloud.fault(Fault::new(FaultKind::Hang)).unwrap();
    let agent = cloud.setup().start();
    let reply = http::get(agent.port(), "/readyz", &[]);
    assert_eq!(reply.status, 503, "{}", reply.text());
}

#[test]
fn an_agent_without_a_region_is_not_ready() {
    let setup = Setup::new(BINARY)
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAIexample")
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "example");
    let agent = setup.start();
    wait_until(&agent, "known", || {
        agent.stderr().contains("the region is not known")
    });
    assert_eq!(status(&agent), 503);
    assert_eq!(state(&agent, "upstream"), "failed");
}

#[test]
fn every_check_has_a_gauge_from_the_first_scrape() {
    let cloud = Cloud::start();
    let agent = cloud.setup().start();
    wait_until(&agent, "ready", || status(&agent) == 200);
    for check in [
        "token",
        "credentials",
        "upstream",
        "cache",
        "prefetch",
        "files",
        "tasks",
    ] {
        assert_eq!(gauge(&agent, check), 0, "{check}");
    }
    let reply = http::get(agent.port(), "/metrics", &[]);
    for task in [
        "accept",
        "credentials",
        "files",
        "maintenance",
        "prefetch",
        "reload",
        "watchdog",
    ] {
        let series = format!("kms_agent_task_restarts_total{{task=\"{task}\"}} 0");
        assert!(reply.text().contains(&series), "{series}");
    }
}
