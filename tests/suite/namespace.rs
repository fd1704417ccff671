//! Tests that need file systems of their own run again inside namespaces, where they may mount what they like and
//! nothing stays behind.

use std::path::Path;
use std::process::Command;

/// Set for the inner run.
const INSIDE: &str = "KMS_AGENT_TEST_INSIDE";

/// Whether this is the run inside; if not, has had it made. `test` is the test's name with its modules.
pub(crate) fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = |command: &mut Command| {
        let output = command.env(INSIDE, "yes").output();
        output
            .map_err(|error| error.to_string())
            .and_then(|output| {
                let said = [output.stdout, output.stderr].concat();
                let said = String::from_utf8_lossy(&said).into_owned();
                if output.status.success() {
                    Ok(said)
                } else {
                    Err(said)
                }
            })
    };
    if let Err(why) =
        unshare(Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]))
    {
        assert!(
            std::env::var_os("CI").is_none(),
            "file systems cannot be mounted: {why}"
        );
        eprintln!("skipped: file systems cannot be mounted here: {why}");
        return false;
    }
    let inner = unshare(
        Command::new("unshare")
            .arg("-rm")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"]),
    );
    assert!(inner.is_ok(), "inside:\n{}", inner.unwrap_err());
    false
}

pub(crate) fn mount(arguments: &[&str], folder: &Path) {
    let status = Command::new("mount")
        .args(arguments)
        .arg(folder)
        .status()
        .unwrap();
    assert!(status.success());
}
