//! Commands that follow secrets: restarts, signals and runs after changes.

use super::*;
use crate::guard::wiping;

/// Starts an agent that has the secrets `a` and `b`.
fn two_secrets() -> (Cloud, TestAgent) {
    let cloud = Cloud::start();
    cloud.put("a", "one");
    cloud.put("b", "{\"used\":\"two\",\"other\":1}");
    let agent = cloud.setup().start();
    (cloud, agent)
}

/// Has the agent look for new versions now.
fn purge(agent: &TestAgent) {
    let port = agent.port().to_string();
    let purged = by(&[BINARY, "purge", "--all", "--port", &port])
        .output()
        .unwrap();
    assert!(purged.status.success(), "{purged:?}");
}

/// Runs a client command of `agent` with the options and the command after `--`.
fn start(agent: &TestAgent, before: &[&str], command: &[&str]) -> Running {
    let port = agent.port().to_string();
    let mut words = vec![BINARY];
    words.extend(before);
    words.extend(["--port", &port, "--"]);
    words.extend(command);
    Running::start(by(&words))
}

#[test]
fn changes_that_come_together_restart_once_and_equal_values_not_at_all() {
    let (cloud, agent) = two_secrets();
    let script = "echo $$ $A $B; exec sleep 600";
    let running = start(
        &agent,
        &["exec", "--watch", "-e", "A=a", "-e", "B=b#used"],
        &["sh", "-c", script],
    );
    let of = |line: String| {
        let (pid, values) = line.split_once(' ').unwrap();
        (pid.to_owned(), values.to_owned())
    };
    let (first, values) = of(running.line());
    assert_eq!(values, "one two");

    cloud.put("a", "ONE");
    cloud.put("b", "{\"used\":\"TWO\",\"other\":1}");
    purge(&agent);
    let (second, values) = of(running.line());
    assert_eq!(values, "ONE TWO");
    assert!(!is_running(&first), "two commands run");

    // A new version with the same value, and one whose change is in a member that is not used.
    cloud.put("a", "ONE");
    cloud.put("b", "{\"used\":\"TWO\",\"other\":2}");
    let reads = cloud.reads();
    purge(&agent);
    wait_until("the versions were not read", || cloud.reads() >= reads + 2);
    // Longer than changes take to settle.
    std::thread::sleep(Duration::from_secs(3));
    assert!(is_running(&second), "an equal value restarts");
    cloud.put("a", "eins");
    purge(&agent);
    let (third, values) = of(running.line());
    assert_eq!(values, "eins TWO");
    assert_eq!(children(running.child.id()), [third]);
}

#[test]
fn a_signal_leaves_the_environment_as_it_was() {
    let (cloud, agent) = two_secrets();
    let script = "trap 'echo signal $A' USR1; echo ready; while :; do sleep 0.05; done";
    let running = start(
        &agent,
        &["exec", "--watch", "--on-change", "USR1", "-e", "A=a"],
        &["sh", "-c", script],
    );
    assert_eq!(running.line(), "ready");
    cloud.put("a", "ONE");
    purge(&agent);
    assert_eq!(running.line(), "signal one");
}

#[test]
fn a_restart_ends_what_does_not_stop_and_its_children() {
    let (cloud, agent) = two_secrets();
    let script = "trap '' TERM; sleep 600 & echo $! $$; while :; do sleep 0.05; done";
    let running = start(
        &agent,
        &["exec", "--watch", "--stop-timeout", "300ms", "-e", "A=a"],
        &["sh", "-c", script],
    );
    let before = running.line();
    cloud.put("a", "ONE");
    purge(&agent);
    assert_ne!(running.line(), before);
    for pid in before.split(' ') {
        wait_until("a process outlives the restart", || !is_running(pid));
    }
}

#[test]
fn a_signal_during_a_restart_ends_both() {
    let (cloud, agent) = two_secrets();
    // Its children ignore the signal to the group.
    let script = "trap 'echo stopping; stop=1' TERM; echo ready; \
         until [ \"$stop\" ]; do sleep 0.05; done; \
         (trap '' TERM; exec sleep 1.5); exit 6";
    let running = start(
        &agent,
        &["exec", "--watch", "-e", "A=a"],
        &["sh", "-c", script],
    );
    assert_eq!(running.line(), "ready");
    cloud.put("a", "ONE");
    purge(&agent);
    assert_eq!(running.line(), "stopping");
    running.signal(Signal::INT);
    let (status, rest) = running.end();
    assert_eq!((status.code(), rest), (Some(130), Vec::new()));
}

#[test]
fn watch_names_the_changed_secrets_and_runs_once_for_changes_that_come_together() {
    let (cloud, agent) = two_secrets();
    let script = "echo \"$KMS_AGENT_CHANGED$KMS_TOKEN\" | sort; echo end; exit 3";
    let running = start(&agent, &["watch", "b", "a"], &["sh", "-c", script]);
    // It reads the secrets first.
    wait_until("the secrets were not read", || cloud.reads() >= 2);
    std::thread::sleep(Duration::from_secs(1));
    let (a, b) = (cloud.put("a", "ONE"), cloud.put("b", "TWO"));
    purge(&agent);
    let lines = |count: usize| (0..count).map(|_| running.line()).collect::<Vec<_>>();
    // The token shows that the environment is complete.
    assert_eq!(
        lines(4),
        [TOKEN, &format!("a {a}"), &format!("b {b}"), "end"]
    );
    let b = cloud.put("b", "zwei");
    purge(&agent);
    assert_eq!(lines(3), [TOKEN, &format!("b {b}"), "end"]);
    running.signal(Signal::TERM);
    let (status, rest) = running.end();
    assert_eq!((status.code(), rest), (Some(0), Vec::new()));
}

#[test]
fn watch_runs_at_the_start_on_request_and_passes_signals_on() {
    let (_cloud, agent) = two_secrets();
    let script = "trap 'echo stopped; exit 4' TERM; echo $KMS_AGENT_CHANGED | cut -d ' ' -f 1,3; \
         while :; do sleep 0.05; done";
    let running = start(&agent, &["watch", "--now", "a", "b"], &["sh", "-c", script]);
    assert_eq!(running.line(), "a b");
    running.signal(Signal::TERM);
    assert_eq!(running.line(), "stopped");
    assert_eq!(running.end().0.code(), Some(0));
}

#[test]
fn many_secrets_are_followed_and_a_deleted_one_hides_no_other() {
    let cloud = Cloud::start();
    let ids: Vec<String> = (0..45).map(|number| format!("many/{number}")).collect();
    for id in &ids {
        cloud.put(id, "one");
    }
    let agent = cloud.setup().start();
    let mut before = vec!["watch"];
    before.extend(ids.iter().map(String::as_str));
    let running = start(
        &agent,
        &before,
        &["sh", "-c", "echo ${KMS_AGENT_CHANGED%% *}"],
    );
    wait_until("the secrets were not read", || cloud.reads() >= 45);
    std::thread::sleep(Duration::from_secs(1));
    cloud.delete_secret("many/3");
    purge(&agent);
    for id in ["many/44", "many/4", "many/25"] {
        cloud.put(id, "two");
        purge(&agent);
        assert_eq!(running.line(), id);
    }
}

#[test]
fn a_restart_of_the_agent_and_an_outage_are_outlived() {
    let (cloud, agent) = two_secrets();
    let running = start(
        &agent,
        &["exec", "--watch", "-e", "A=a"],
        &["sh", "-c", "echo $A; exec sleep 600"],
    );
    assert_eq!(running.line(), "one");
    let port = agent.port();
    agent.stop();
    cloud.put("a", "ONE");
    let agent = cloud
        .setup_on_port(port)
        .and_config("[Cache]\nWatchSeconds = 5\n")
        .start();
    assert_eq!(running.line(), "ONE");
    cloud
        .fault(kms_agent_emulator::Fault::new(
            kms_agent_emulator::FaultKind::Cut,
        ))
        .unwrap();
    cloud.put("a", "eins");
    purge_by_name(&agent, "a");
    std::thread::sleep(Duration::from_secs(1));
    cloud.clear_faults();
    assert_eq!(running.line(), "eins");
}

fn purge_by_name(agent: &TestAgent, name: &str) {
    let port = agent.port().to_string();
    // While KMS fails the agent keeps the entry, and looks for a new version all the same.
    let _ = by(&[BINARY, "purge", name, "--port", &port]).output();
}

#[test]
fn the_parent_keeps_no_value() {
    if !wiping::is_root() {
        return;
    }
    let cloud = Cloud::start();
    let first = wiping::canary(400);
    cloud.put("a", &first);
    let agent = cloud.setup().start();
    let running = start(
        &agent,
        &["exec", "--watch", "-e", "A=a"],
        &["sh", "-c", "echo $A; exec sleep 600"],
    );
    assert_eq!(running.line(), first);
    let parent = running.child.id();
    let is_wiped =
        |value: &str| wait_until("a value is left", || wiping::copies(parent, value) == 0);
    is_wiped(&first);
    let second = wiping::canary(400);
    cloud.put("a", &second);
    purge(&agent);
    assert_eq!(running.line(), second);
    is_wiped(&second);
}
