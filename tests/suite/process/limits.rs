//! Privileges that the process has given up, and memory that it has locked.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::{field_of, is_root, status_of};
use crate::harness::cloud::Cloud;

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
    // Root owns the files in /proc of an undumpable process, so that its user cannot trace it.
    for file in ["environ", "mem"] {
        assert_eq!(fs::metadata(of_process(file)).unwrap().uid(), 0, "{file}");
    }
    // A thread sets its name when it first runs.
    let began = Instant::now();
    while !threads(agent.pid()).any(|status| field_of(&status, "Name") == "kms-agent") {
        assert!(began.elapsed() < LIMIT, "the workers have another name");
        thread::sleep(Duration::from_millis(20));
    }
    for status in threads(agent.pid()) {
        assert_eq!(field_of(&status, "NoNewPrivs"), "1", "{status}");
    }
}

/// Returns the status file of each thread.
fn threads(pid: u32) -> impl Iterator<Item = String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // A thread may end meanwhile.
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
        eprintln!("skipped: RLIMIT_MEMLOCK cannot be raised here");
        return;
    }
    let cloud = Cloud::start();
    let agent = cloud.setup().by("ulimit -l unlimited; exec \"$@\"").start();
    assert_ne!(status_of(agent.pid(), "VmLck"), "0 kB");
    let (_, said) = agent.stop();
    assert!(!said.contains(SWAPPABLE), "{said}");
}

/// Starts the agent with a limit on locked memory, on a machine whose `/proc/swaps` lists `swaps`.
pub(crate) fn with_swap(swaps: &str) -> String {
    format!(
        "printf 'Filename Type Size Used Priority\\n{swaps}' >swaps
         exec unshare --mount bash -euc 'mount --make-rprivate /; mount --bind swaps /proc/swaps; ulimit -l 64; exec \"$@\"' bash \"$@\""
    )
}

pub(crate) const SWAP: &str = "/dev/zram0 partition 8388604 0 100\\n";

#[test]
fn memory_that_cannot_be_locked_is_warned_of_once() {
    if !is_root() {
        return;
    }
    let cloud = Cloud::start();
    let agent = cloud.setup().by(&with_swap(SWAP)).start();
    assert_eq!(status_of(agent.pid(), "VmLck"), "0 kB");
    let (_, said) = agent.stop();
    assert_eq!(said.matches(SWAPPABLE).count(), 1, "{said}");
}

#[test]
fn a_machine_without_swap_is_not_warned_of_it() {
    if !is_root() {
        return;
    }
    let cloud = Cloud::start();
    let agent = cloud.setup().by(&with_swap("")).start();
    assert_eq!(status_of(agent.pid(), "VmLck"), "0 kB");
    let (_, said) = agent.stop();
    assert!(!said.contains(SWAPPABLE), "{said}");
}

#[test]
fn no_thread_keeps_a_capability_and_root_is_warned_of() {
    const AS_ROOT: &str = "the agent runs as root";
    let cloud = Cloud::start();
    let agent = cloud.setup().start();
    let sets: &[&str] = if is_root() {
        &["CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"]
    } else {
        &["CapEff", "CapPrm", "CapInh", "CapAmb"]
    };
    for status in threads(agent.pid()) {
        for set in sets {
            assert_eq!(
                field_of(&status, set),
                "0000000000000000",
                "{set}: {status}"
            );
        }
    }
    let (_, said) = agent.stop();
    assert_eq!(
        said.matches(AS_ROOT).count(),
        usize::from(is_root()),
        "{said}"
    );
    if is_root() {
        let agent = cloud.setup().by(super::surroundings::AS_ANYBODY).start();
        let (_, said) = agent.stop();
        assert!(!said.contains(AS_ROOT), "{said}");
    }
}

#[test]
fn every_thread_is_kept_from_system_calls_that_the_agent_never_makes() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud.setup().start();
    assert_eq!(agent.read("s").status, 200);
    for status in threads(agent.pid()) {
        // 2: a filter.
        assert_eq!(field_of(&status, "Seccomp"), "2", "{status}");
    }
    let (_, said) = agent.stop();
    assert!(!said.contains(UNFILTERED), "{said}");
}

const UNFILTERED: &str = "the process may make every system call";

/// Starter under which `prctl(PR_SET_SECCOMP)` fails as on a kernel without seccomp.
pub(crate) const WITHOUT_SECCOMP: &str = r#"
import ctypes, os, platform, struct, sys
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
EINVAL, ALLOW = 0x50000 | 22, 0x7fff0000
PRCTL = {"x86_64": 157, "aarch64": 167}[platform.machine()]
NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2
steps = [(LOAD, 0, 0, 0), (EQUAL, 0, 3, PRCTL), (LOAD, 0, 0, 16), (EQUAL, 0, 1, SECCOMP), (RETURN, 0, 0, EINVAL),
         (RETURN, 0, 0, ALLOW)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert libc.prctl(SECCOMP, FILTER, program, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn a_kernel_that_takes_no_filter_is_warned_of_once_and_served_on() {
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), WITHOUT_SECCOMP).unwrap();
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud
        .setup()
        .by(&format!("exec python3 {} \"$@\"", script.path().display()))
        .start();
    assert_eq!(agent.read("s").status, 200);
    let (_, said) = agent.stop();
    assert_eq!(said.matches(UNFILTERED).count(), 1, "{said}");
}

#[test]
fn a_limit_on_descriptors_that_is_too_low_is_warned_of() {
    const TOO_FEW: &str = "set LimitNOFILE=1120 in the unit";
    let cloud = Cloud::start();
    for (limit, warnings) in [(1119, 1), (1120, 0)] {
        let agent = cloud
            .setup()
            .by(&format!("ulimit -n {limit}; exec \"$@\""))
            .start();
        let (_, said) = agent.stop();
        assert_eq!(said.matches(TOO_FEW).count(), warnings, "{said}");
    }
}
