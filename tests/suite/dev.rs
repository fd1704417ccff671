//! The embedded default, as a newcomer meets it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::cloud::BINARY;

#[test]
fn dev_prints_a_curl_line_that_works_and_ctrl_c_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(BINARY)
        .args(["dev", "--port", "0", "--secret", "app/db=s3cr=t"])
        .current_dir(folder.path())
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let line = line.trim_end();
    assert!(line.starts_with("curl "), "{line}");

    let run = |line: &str| {
        let output = Command::new("sh")
            .args(["-c", &format!("{line} --silent --fail --noproxy '*'")])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["SecretData"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(run(line).contains("password"));
    assert_eq!(
        run(&line.replace("secretId=demo", "secretId=app/db")),
        "s3cr=t"
    );

    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
