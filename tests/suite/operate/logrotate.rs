//! The log file under Debian's logrotate.

use std::fs;
use std::path::Path;
use std::process::Command;

use kms_agent_test_support::TestAgent;
use rustix::process::Signal;

use crate::harness::cloud::Cloud;
use crate::operate::log::{hang_up, lost_lines, read, setup, until};

const NAME: &str = "kms-agent.log";

/// Path on Debian, which is not in every user's `PATH`.
const LOGROTATE: &str = "/usr/sbin/logrotate";

fn is_missing() -> bool {
    let is_missing = !Path::new(LOGROTATE).exists();
    if is_missing {
        eprintln!("skipped: {LOGROTATE} is not there; install logrotate");
    }
    is_missing
}

/// Rotates the agent's log by logrotate, with `rules` and a SIGHUP afterwards.
fn rotate(agent: &TestAgent, logs: &Path, rules: &str) {
    let hang_up = if rules.contains("copytruncate") {
        String::new()
    } else {
        format!("postrotate\nkill -HUP {}\nendscript\n", agent.pid())
    };
    let file = logs.join(NAME);
    let text = format!("{} {{\nrotate 5\n{rules}{hang_up}}}\n", file.display());
    run(agent, &text);
}

/// Runs logrotate with the config `text`.
fn run(agent: &TestAgent, text: &str) {
    let folder = agent.folder();
    let config = folder.join("logrotate.conf");
    fs::write(&config, text).unwrap();
    let output = Command::new(LOGROTATE)
        .args(["--force", "--state"])
        .arg(folder.join("logrotate.state"))
        .arg(&config)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn create_and_a_hangup_begin_a_new_file_though_no_key_has_changed() {
    if is_missing() {
        return;
    }
    let cloud = Cloud::start();
    for rules in ["create\n", "create 0644\ncompress\n", "nocreate\n"] {
        for name in ["before", "between", "after"] {
            cloud.put(name, "value");
        }
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join(NAME);
        let text = || fs::read_to_string(&log).unwrap_or_default();
        let agent = setup(&cloud, folder.path(), "").start();
        read(&agent, "before", 1);
        until("it is logged", || text().contains("before"));
        rotate(&agent, folder.path(), rules);
        until("the reload is logged", || text().contains("reloaded"));
        read(&agent, "after", 10);
        until("the requests are logged", || {
            text().matches("\"after\"").count() == 10
        });
        assert!(!text().contains("before"), "{rules}");
        assert_eq!(lost_lines(&agent), 0);
        // The rotated file keeps the earlier lines, compressed or not.
        let set_aside = ["1", "1.gz"].map(|end| folder.path().join(format!("{NAME}.{end}")));
        assert!(set_aside.iter().any(|path| path.exists()), "{rules}");
    }
}

#[test]
fn the_rules_of_the_deployment_guide_work() {
    if is_missing() {
        return;
    }
    let guide = include_str!("../../../deploy/README.md");
    let rules = guide
        .split("```text\n")
        .filter_map(|rest| rest.split_once("```"))
        .map(|(block, _)| block)
        .find(|block| block.contains("postrotate"))
        .unwrap();
    let cloud = Cloud::start();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join(NAME);
    let agent = setup(&cloud, folder.path(), "MaxSize = 10000\n").start();
    let (first, rest) = rules.split_once('\n').unwrap();
    assert!(first.ends_with("/kms-agent.log {"), "{first}");
    let rules = format!("{} {{\n{rest}", log.display()).replace(
        "systemctl reload alibabacloud-kms-agent",
        &format!("kill -HUP {}", agent.pid()),
    );
    // logrotate does not rotate an empty file.
    until("the start is logged", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("listening on"))
    });
    run(&agent, &rules);
    until("the reload is in a new file", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("reloaded"))
    });
    let moved = fs::read_to_string(folder.path().join(format!("{NAME}.1"))).unwrap();
    assert!(moved.contains("listening on"), "{moved}");
}

#[test]
fn a_hangup_with_a_broken_config_reopens_the_log_too() {
    let cloud = Cloud::start();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join(NAME);
    let agent = setup(&cloud, folder.path(), "").start();
    fs::write(agent.folder().join("config.toml"), "[Server]\nX = 1\n").unwrap();
    fs::rename(&log, folder.path().join("moved")).unwrap();
    agent.signal(Signal::HUP);
    until("the refusal is in the new file", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("Server.X: unknown key"))
    });
}

#[test]
fn a_copied_and_truncated_log_is_not_rotated_before_it_is_full() {
    if is_missing() {
        return;
    }
    let cloud = Cloud::start();
    let name = "n".repeat(190);
    cloud.put(&name, "value");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join(NAME);
    let size = || fs::metadata(&log).unwrap().len();
    let agent = setup(&cloud, folder.path(), "MaxSize = 1\nMaxBackups = 9\n").start();
    // Together they exceed a megabyte; each alone does not.
    for _ in 0..3 {
        until("the file has half a megabyte", || {
            read(&agent, &name, 100);
            size() > 512 * 1024
        });
        rotate(&agent, folder.path(), "copytruncate\n");
        assert!(size() < 256 * 1024);
    }
    hang_up(&agent, folder.path());
    read(&agent, &name, 100);
    let backups = (1..9).filter(|number| folder.path().join(format!("{NAME}.{number}")).exists());
    assert_eq!(backups.count(), 3, "only those that logrotate made");
    assert!(!fs::read(&log).unwrap().contains(&0), "there is a hole");
}
