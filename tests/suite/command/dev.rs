//! `dev`: the agent with an emulator, as a new user starts it.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::cloud::BINARY;

/// A running `dev`, and its output up to readiness.
struct Dev {
    child: Child,
    lines: Vec<String>,
}

impl Dev {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(BINARY)
            .args(["dev", "--port", "0"])
            .args(arguments)
            .current_dir(folder)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            lines.push(line.unwrap());
            if lines.last().is_some_and(|line| line.contains("Ctrl-C")) {
                break;
            }
        }
        Self { child, lines }
    }

    /// Runs a line in a shell, with more options for `curl`.
    fn paste(line: &str, options: &str) -> String {
        let output = Command::new("sh")
            .args([
                "-c",
                &format!("{line} --silent --fail --noproxy '*' {options}"),
            ])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn value(line: &str) -> String {
        let answer: serde_json::Value = serde_json::from_str(&Self::paste(line, "")).unwrap();
        answer["SecretData"].as_str().unwrap().to_owned()
    }

    /// Returns the `Cache-Status` of the answer to the line for a secret.
    fn cache_status(&self, name: &str) -> String {
        let answer = Self::paste(self.curl(name), "--include");
        let line = answer
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with("cache-status:"));
        line.unwrap().to_owned()
    }

    fn curl(&self, name: &str) -> &str {
        let end = format!("secretId={name}'");
        let line = self
            .lines
            .iter()
            .find(|line| line.starts_with("curl ") && line.ends_with(&end));
        line.expect("there is a line for each secret")
    }

    fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Both fail only if it has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn dev_prints_lines_that_work_and_ctrl_c_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(
        folder.path(),
        &["--secret", "app/db=s3cr=t", "--secret", "a b=%"],
    );
    assert!(dev.lines[0].starts_with("curl ") && dev.lines[0].ends_with("secretId=demo'"));
    assert!(Dev::value(&dev.lines[0]).contains("password"));
    assert_eq!(Dev::value(dev.curl("app/db")), "s3cr=t");
    assert_eq!(Dev::value(dev.curl("a%20b")), "%");
    assert!(dev.lines.last().unwrap().contains("Ctrl-C"));

    // The lines for another terminal are run unchanged.
    let path = Path::new(BINARY).parent().unwrap().display().to_string();
    let output = Command::new("sh")
        .args(["-eu"])
        .env("PATH", format!("{path}:/usr/bin:/bin"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .and_then(|mut shell| {
            let rest: Vec<&str> = dev.lines.iter().skip(3).map(String::as_str).collect();
            std::io::Write::write_all(
                &mut shell.stdin.take().unwrap(),
                rest.join("\n").as_bytes(),
            )?;
            shell.wait_with_output()
        })
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "{\"user\":\"demo\",\"password\":\"correct horse battery staple\"}"
    );
    dev.stop();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn with_persist_the_next_run_answers_from_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let persist = &["--persist", "kept"][..];
    let dev = Dev::start(
        folder.path(),
        &[persist, &["--secret", "app/db=first"]].concat(),
    );
    assert_eq!(Dev::value(dev.curl("app/db")), "first");
    assert!(Dev::value(dev.curl("demo")).contains("password"));
    let first_token = dev
        .lines
        .iter()
        .find(|line| line.starts_with("export"))
        .unwrap()
        .clone();
    dev.stop();
    let state = folder.path().join("kept/emulator.json");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o600);
    assert_eq!(mode(&folder.path().join("kept")), 0o700);

    // The secrets of the first run are there, answered from the cache.
    let dev = Dev::start(folder.path(), persist);
    assert!(
        dev.cache_status("app/db").contains("; hit"),
        "{:?}",
        dev.lines
    );
    assert!(dev.cache_status("demo").contains("; hit"));
    assert!(
        !dev.lines.contains(&first_token),
        "each start draws another token"
    );
    dev.stop();

    // The same value creates no version; another value does, and is read.
    let same = Dev::start(
        folder.path(),
        &[persist, &["--secret", "app/db=first"]].concat(),
    );
    assert!(same.cache_status("app/db").contains("; hit"));
    same.stop();
    let other = Dev::start(
        folder.path(),
        &[persist, &["--secret", "app/db=second"]].concat(),
    );
    assert_eq!(Dev::value(other.curl("app/db")), "second");
    assert_eq!(
        Dev::value(
            &other
                .curl("app/db")
                .replace("app/db", "app/db&versionStage=ACSPrevious")
        ),
        "first"
    );
    other.stop();
    let last = Dev::start(folder.path(), persist);
    assert_eq!(Dev::value(last.curl("app/db")), "second");
    last.stop();
}

#[test]
fn a_folder_that_cannot_be_used_ends_the_run_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let fails = |argument: &str, code: i32, expected: &str| {
        let output = Command::new(BINARY)
            .args(["dev", "--port", "0", "--persist", argument])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(expected), "{said}");
        assert_eq!(output.stdout, b"", "{said}");
        said
    };
    fails(
        "/etc/passwd",
        2,
        "--persist /etc/passwd: this is not a folder",
    );
    fails("/etc/passwd/below", 1, "--persist /etc/passwd/below: ");
    let state = folder.path().join("kept/emulator.json");
    std::fs::create_dir(folder.path().join("kept")).unwrap();
    let write = |text: &str, mode: u32| {
        std::fs::write(&state, text).unwrap();
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write("{\"port\": \"hunter2\"}", 0o600);
    let said = fails("kept", 78, "emulator.json: it is damaged");
    assert!(!said.contains("hunter2"), "{said}");
    write("{}", 0o644);
    fails("kept", 78, "chmod");
    std::fs::remove_file(&state).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &state).unwrap();
    fails("kept", 78, "emulator.json: ");
}
