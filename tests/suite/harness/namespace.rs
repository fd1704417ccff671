//! Tests that need file systems of their own run again inside namespaces, where they may mount what they like and
//! nothing stays behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set for the inner run.
const INSIDE: &str = "KMS_AGENT_TEST_INSIDE";

/// Whether file systems may be mounted here; CI must.
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

/// Whether this is the run inside; if not, has had it made. `test` is the test's name with its modules.
pub(crate) fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if may_mount() {
        let inner = run(Command::new("unshare")
            .arg("-rm")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(INSIDE, "yes"));
        assert!(inner.is_ok(), "inside:\n{}", inner.unwrap_err());
    }
    false
}

/// Runs it to its end; the error is what it said.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(String::from_utf8_lossy(&said).into_owned())
}

pub(crate) fn mount(arguments: &[&str], folder: &Path) {
    let status = Command::new("mount")
        .args(arguments)
        .arg(folder)
        .status()
        .unwrap();
    assert!(status.success());
}

/// A disk of its own for the store of an agent in `folder`.
pub(crate) fn cache_disk(folder: &Path, options: &str) -> PathBuf {
    let cache = folder.join("cache");
    fs::create_dir(&cache).unwrap();
    mount(&["-t", "tmpfs", "-o", options, "tmpfs"], &cache);
    cache
}
