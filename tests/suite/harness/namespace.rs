//! Namespaces for tests that mount file systems: such a test runs itself again inside, and nothing stays behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Environment variable of the inner run.
const INSIDE: &str = "KMS_AGENT_TEST_INSIDE";

/// Python that sets the flags UP and RUNNING of `lo` by `SIOCSIFFLAGS`.
const LOOPBACK_UP: &str = "import fcntl, socket, struct; \
    fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh22x', b'lo', 0x41))";

/// Returns whether this user may mount file systems; CI must.
pub(crate) fn may_mount() -> bool {
    let tried = run(Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]));
    if let Err(why) = &tried {
        assert!(
            std::env::var_os("CI").is_none(),
            "file systems cannot be mounted: {why}"
        );
        eprintln!("skipped: file systems cannot be mounted here: {why}");
    }
    tried.is_ok()
}

/// Returns whether this is the inner run, in its own mount namespace; if not, starts that run.
///
/// `module` is the `module_path!()` of `test`.
pub(crate) fn is_inside(module: &str, test: &str) -> bool {
    is_inside_of(Command::new("unshare").arg("-rm"), module, test)
}

/// As [`is_inside`], with a network namespace too, where only the loopback interface is up.
pub(crate) fn is_inside_network(module: &str, test: &str) -> bool {
    let starter = ["sh", "-c", "python3 -c \"$0\" && exec \"$@\"", LOOPBACK_UP];
    is_inside_of(
        Command::new("unshare").arg("-rmn").args(starter),
        module,
        test,
    )
}

fn is_inside_of(starter: &mut Command, module: &str, test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if may_mount() {
        let (_crate, room) = module.split_once("::").unwrap();
        let inner = run(starter
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{room}::{test}"), "--nocapture"])
            .env(INSIDE, "yes"));
        assert!(
            matches!(&inner, Ok(output) if output.contains("1 passed")),
            "inner run of {room}::{test}:\n{}",
            inner.unwrap_or_else(|output| output)
        );
    }
    false
}

/// Runs a command and returns its output, as the error if it fails.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(text)
    }
}

pub(crate) fn mount(arguments: &[&str], folder: &Path) {
    let status = Command::new("mount")
        .args(arguments)
        .arg(folder)
        .status()
        .unwrap();
    assert!(status.success());
}

/// Mounts a new file system for the store of an agent in `folder`.
pub(crate) fn cache_disk(folder: &Path, options: &str) -> PathBuf {
    let cache = folder.join("cache");
    fs::create_dir(&cache).unwrap();
    mount(&["-t", "tmpfs", "-o", options, "tmpfs"], &cache);
    cache
}
