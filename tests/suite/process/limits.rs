//! What the process has given up or taken for itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::{field_of, is_root, status_of};
use crate::cloud::Cloud;

const LIMIT: Duration = Duration::from_secs(30);

const SWAPPABLE: &str = "memory may be swapped";

#[test]
fn the_process_gives_up_core_files_and_new_privileges() {
    let cloud = Cloud::start();
    let agent = cloud.setup().start();
    let of_process = |name: &str| format!("/proc/{}/{name}", agent.pid());
    let limits = fs::read_to_string(of_process("limits")).unwrap();
    let core = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"))
        .unwrap();
    let core: Vec<&str> = core.split_whitespace().take(2).collect();
    assert_eq!(core, ["0", "0"]);
    // What belongs to an undumpable process is root's, so that its own user cannot trace it.
    for file in ["environ", "mem"] {
        assert_eq!(fs::metadata(of_process(file)).unwrap().uid(), 0, "{file}");
    }
    // A thread gives itself its name when it first runs.
    let began = Instant::now();
    while !threads(agent.pid()).any(|status| field_of(&status, "Name") == "kms-agent") {
        assert!(began.elapsed() < LIMIT, "the workers have another name");
        thread::sleep(Duration::from_millis(20));
    }
    for status in threads(agent.pid()) {
        assert_eq!(field_of(&status, "NoNewPrivs"), "1", "{status}");
    }
}

/// What the system says of each thread.
fn threads(pid: u32) -> impl Iterator<Item = String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // One may end meanwhile.
    tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok())
}

#[test]
fn an_undumpable_process_belongs_to_root_also_when_its_user_is_another() {
    if !is_root() {
        return;
    }
    let cloud = Cloud::start();
    let agent = cloud.setup().by(super::surroundings::AS_ANYBODY).start();
    let memory = fs::metadata(format!("/proc/{}/mem", agent.pid())).unwrap();
    assert_eq!(
        (status_of(agent.pid(), "Uid"), memory.uid()),
        ("54321\t54321\t54321\t54321".to_owned(), 0)
    );
}

#[test]
fn memory_is_locked_where_there_is_no_limit_to_it() {
    let raise = Command::new("bash")
        .args(["-c", "ulimit -l unlimited"])
        .output();
    if !raise.unwrap().status.success() {
        eprintln!("skipped: nobody may raise RLIMIT_MEMLOCK here");
        return;
    }
    let cloud = Cloud::start();
    let agent = cloud.setup().by("ulimit -l unlimited; exec \"$@\"").start();
    assert_ne!(status_of(agent.pid(), "VmLck"), "0 kB");
    let (_, said) = agent.stop();
    assert!(!said.contains(SWAPPABLE), "{said}");
}

#[test]
fn memory_that_cannot_be_locked_is_warned_of_once() {
    let cloud = Cloud::start();
    let agent = cloud.setup().by("ulimit -l 64; exec \"$@\"").start();
    assert_eq!(status_of(agent.pid(), "VmLck"), "0 kB");
    let (_, said) = agent.stop();
    assert_eq!(said.matches(SWAPPABLE).count(), 1, "{said}");
}
