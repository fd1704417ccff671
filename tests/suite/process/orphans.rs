//! Orphans in a container whose first process is the agent.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{LIMIT, is_root};
use crate::harness::cloud::Cloud;

/// Returns the children of `pid`, zombies included.
fn children(pid: &str) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().map(str::to_owned).collect()
}

fn is_alone(pid: &str) -> bool {
    // Any thread may be the parent of adopted processes.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("children")).ok())
        .all(|children| children.trim().is_empty())
}

#[test]
fn orphans_leave_no_zombies_where_the_agent_is_process_1() {
    if !is_root() {
        return;
    }
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let starter = cloud
        .setup()
        .by("exec unshare --pid --fork --kill-child --mount-proc \"$@\"")
        .start();
    let agent = children(&starter.pid().to_string()).remove(0);
    for _ in 0..3 {
        let left = Command::new("nsenter")
            .args(["--target", &agent, "--pid", "bash", "-c"])
            .arg("(sleep 0.1 & sleep 0.2 &) ; exit 0")
            .status()
            .unwrap();
        assert!(left.success());
    }
    assert!(!is_alone(&agent), "the orphans were not adopted");
    let began = Instant::now();
    while !is_alone(&agent) {
        assert!(began.elapsed() < LIMIT, "zombies: {:?}", children(&agent));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(starter.read("s").status, 200);
}
