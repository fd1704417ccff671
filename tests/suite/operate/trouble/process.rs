//! Rows about reload, log and process.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kms_agent_test_support::http::Connection;
use kms_agent_test_support::{Setup, TestAgent};
use rustix::process::Signal;

use super::row;
use crate::harness::cloud::{BINARY, Cloud};
use crate::harness::namespace::{is_inside, may_mount, mount};
use crate::process::{
    SWAP, WITHOUT_LANDLOCK, WITHOUT_SECCOMP, is_root, kernel_confines, with_swap,
};

pub(super) fn wait_for_line(agent: &TestAgent, text: &str) {
    let began = Instant::now();
    while !agent.stderr().contains(text) {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "no {text:?} in:\n{}",
            agent.stderr()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn reload(agent: &TestAgent, text: &str) {
    fs::write(agent.folder().join("config.toml"), text).unwrap();
    agent.signal(Signal::HUP);
}

fn logging_to(folder: &Path) -> String {
    format!(
        "[Server]\nHttpPort = 0\n[Log]\nLogLevel = \"Debug\"\nLogPath = \"{}\"\n",
        folder.display()
    )
}

#[test]
fn a_reload_that_is_refused_in_whole_or_in_part() {
    let agent = Setup::new(BINARY).start();
    reload(&agent, "[Server]\nHttpPrt = 1\n");
    row("a reload changes nothing").is_seen_on(&agent);

    reload(
        &agent,
        "[Server]\nHttpPort = 0\nMaxConn = 7\n[Log]\nLogPath = \"\"\n",
    );
    row("a reload changes only a part").is_seen_on(&agent);

    reload(
        &agent,
        "[Server]\nHttpPort = 0\n[Log]\nLogPath = \"\"\n[[Client]]\nName = \"a\"\nUser = \"no-such-user\"\n",
    );
    row("a reload names a client that cannot be opened").is_seen_on(&agent);

    if kernel_confines() {
        let elsewhere = tempfile::tempdir().unwrap();
        reload(&agent, &logging_to(elsewhere.path()));
        row("a reload names a file elsewhere").is_seen_on(&agent);
    }
}

#[test]
fn a_log_folder_that_cannot_be_written() {
    let no_folder = tempfile::NamedTempFile::new().unwrap();
    let agent = Setup::new(BINARY)
        .config(logging_to(no_folder.path()))
        .start();
    row("the log folder cannot be written").is_seen_on(&agent);
}

#[test]
fn a_log_disk_that_is_full() {
    if !is_inside(module_path!(), "a_log_disk_that_is_full") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    mount(&["-t", "tmpfs", "-o", "size=256k", "tmpfs"], folder.path());
    let _ = fs::write(folder.path().join("ballast"), vec![1; 1 << 20]);
    let agent = Setup::new(BINARY).config(logging_to(folder.path())).start();
    row("the log's disk is full").is_seen_on(&agent);
}

#[test]
fn memory_that_is_not_locked() {
    if !is_root() {
        return;
    }
    let agent = Setup::new(BINARY).by(&with_swap(SWAP)).start();
    row("memory is not locked").is_seen_on(&agent);
}

#[test]
fn a_kernel_without_landlock() {
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), WITHOUT_LANDLOCK).unwrap();
    let agent = Setup::new(BINARY)
        .by(&format!("exec python3 {} \"$@\"", script.path().display()))
        .start();
    row("the kernel has no Landlock").is_seen_on(&agent);
}

#[test]
fn a_kernel_that_takes_no_filter() {
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), WITHOUT_SECCOMP).unwrap();
    let agent = Setup::new(BINARY)
        .by(&format!("exec python3 {} \"$@\"", script.path().display()))
        .start();
    row("no filter of system calls").is_seen_on(&agent);
}

#[test]
fn a_token_in_the_root_folder() {
    if !kernel_confines() || !may_mount() {
        return;
    }
    // In a new root file system, where all folders belong to this user.
    let agent = Setup::new(BINARY)
        .env("KMS_TOKEN", "file:///kmstoken")
        .by("exec unshare --map-root-user --mount bash -euc '\
             mkdir root; mount -t tmpfs tmpfs root; \
             for each in /*; do \
             if [ -L $each ]; then cp --no-dereference $each root; \
             elif [ -d $each ]; then mkdir root$each; mount --rbind $each root$each; fi; done; \
             exec chroot root \"$@\"' bash \"$@\"")
        .start();
    row("a file in a home or in the root folder is not followed").is_seen_on(&agent);
}

#[test]
fn a_folder_that_is_made_after_the_start() {
    let home = tempfile::tempdir().unwrap();
    let agent = Setup::new(BINARY)
        .env("HOME", home.path().to_str().unwrap())
        .start();
    row("a file is made in a folder that was not there").is_seen_on(&agent);
}

#[test]
fn a_root_user_and_too_few_descriptors() {
    let agent = Setup::new(BINARY).by("ulimit -n 500; exec \"$@\"").start();
    row("the limit on open files is too low").is_seen_on(&agent);
    if is_root() {
        row("the agent is root").is_seen_on(&agent);
    }
}

#[test]
fn an_agent_that_does_not_answer_itself() {
    let cloud = Cloud::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let _manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let agent = cloud
        .setup()
        .env("NOTIFY_SOCKET", path.display().to_string())
        .env("WATCHDOG_USEC", "200000")
        .by("ulimit -n 64; exec \"$@\"")
        .start();
    let crowd: Vec<_> = (0..100)
        .map(|_| Connection::open(agent.port()).unwrap())
        .collect();
    wait_for_line(&agent, "The agent does not answer its own health check");
    drop(crowd);
    row("the watchdog restarts the agent").is_seen_on(&agent);
}
