//! `exec`: a command with secrets in its environment.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use kms_agent_test_support::{TOKEN, TestAgent};

use crate::harness::cloud::{BINARY, Cloud};

const PASSWORD: &str = "canary p4ss'\"$\n wörd";

fn house() -> (Cloud, TestAgent) {
    let cloud = Cloud::start();
    let value =
        serde_json::json!({"user": "app", "password": PASSWORD, "hosts": ["a", "b"], "port": 5432});
    cloud.put("app/db", &value.to_string());
    cloud.put("plain", "text");
    let agent = cloud.setup().start();
    (cloud, agent)
}

/// Builds an `exec` command from the arguments before and after `--`, with three environment variables.
fn exec(agent: &TestAgent, variables: &[&str], command: &[&str]) -> Command {
    let mut exec = Command::new(BINARY);
    exec.args(["exec", "--port", &agent.port().to_string()])
        .args(variables.iter().flat_map(|variable| ["-e", variable]))
        .arg("--")
        .args(command)
        .env_clear()
        .envs([
            ("KMS_TOKEN", TOKEN),
            ("PATH", "/usr/bin:/bin"),
            ("KEPT", "kept"),
        ])
        .stdin(Stdio::null());
    exec
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_command_finds_what_was_asked_for_in_its_environment_and_nothing_else_is_new() {
    let (cloud, agent) = house();
    let variables = [
        "PASSWORD=app/db#password",
        "HOST=app/db#hosts.1",
        "PORT=app/db#port",
        "PLAIN=plain",
        "KEPT=app/db#user",
    ];
    let output = exec(&agent, &variables, &["env", "-0"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let found: BTreeMap<&str, &str> = text
        .split_terminator('\0')
        .map(|line| line.split_once('=').unwrap())
        .collect();
    let expected = [
        ("HOST", "b"),
        ("KEPT", "app"),
        ("PASSWORD", PASSWORD),
        ("PATH", "/usr/bin:/bin"),
        ("PLAIN", "text"),
        ("PORT", "5432"),
    ];
    assert_eq!(found, BTreeMap::from(expected));
    assert_eq!(cloud.reads(), 2, "a secret is read once");
}

#[test]
fn the_command_gets_the_token_only_when_that_is_asked_for() {
    let (_cloud, agent) = house();
    let tokens = |mut command: Command| {
        command.envs([
            ("KMS_SESSION_TOKEN", TOKEN),
            ("KMS_CONTAINER_AUTHORIZATION_TOKEN", TOKEN),
        ]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .filter(|line| line.contains("TOKEN="))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(tokens(exec(&agent, &["PLAIN=plain"], &["env"])), [""; 0]);
    // A requested variable is not treated as the agent's token.
    assert_eq!(
        tokens(exec(&agent, &["KMS_TOKEN=plain"], &["env"])),
        ["KMS_TOKEN=text"]
    );
    let mut keeping = Command::new(BINARY);
    keeping
        .args([
            "exec",
            "--keep-token",
            "--port",
            &agent.port().to_string(),
            "-e",
            "X=plain",
            "--",
            "env",
        ])
        .env_clear()
        .envs([("KMS_TOKEN", TOKEN), ("PATH", "/usr/bin:/bin")]);
    assert_eq!(tokens(keeping).len(), 3);
}

#[test]
fn core_files_are_off_for_exec_itself_and_as_before_for_the_command() {
    let (cloud, agent) = house();
    let limits = |text: &str| -> String {
        let line = text
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        line.expect("every process has one").to_owned()
    };
    let before = limits(&std::fs::read_to_string("/proc/self/limits").unwrap());
    let output = exec(&agent, &["PLAIN=plain"], &["cat", "/proc/self/limits"])
        .output()
        .unwrap();
    assert_eq!(limits(&String::from_utf8(output.stdout).unwrap()), before);

    // Its own limit can be read while it waits for KMS.
    cloud
        .fault(kms_agent_emulator::Fault::new(
            kms_agent_emulator::FaultKind::Hang,
        ))
        .unwrap();
    let mut child = exec(&agent, &["SLOW=app/slow"], &["true"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let own = format!("/proc/{}/limits", child.id());
    let began = std::time::Instant::now();
    loop {
        let text = std::fs::read_to_string(&own).unwrap();
        if limits(&text).split_whitespace().nth(4) == Some("0") {
            break;
        }
        assert!(began.elapsed().as_secs() < 30, "core files stay on");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_process_becomes_the_command_and_shows_no_value_on_its_command_line() {
    let (_cloud, agent) = house();
    let script = "echo $$; tr '\\0' ' ' < /proc/$$/cmdline; kill -s PIPE $$";
    let child = exec(&agent, &["PASSWORD=app/db#password"], &["sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (first, rest) = said.split_once('\n').unwrap();
    assert_eq!(first, pid.to_string());
    assert!(
        rest.starts_with("sh -c") && !rest.contains("canary"),
        "{rest}"
    );
    // The command does not inherit the ignored SIGPIPE.
    assert_eq!(output.status.signal(), Some(13), "{:?}", output.status);

    let status = exec(&agent, &["PLAIN=plain"], &["sh", "-c", "exit 7"])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(7));
}

#[test]
fn without_every_secret_nothing_is_started_and_the_one_at_fault_is_named() {
    let (cloud, agent) = house();
    cloud.put("zero", "a\0b");
    let folder = tempfile::tempdir().unwrap();
    for (variable, code, expected) in [
        ("X=missing", 1, "X from missing: Forbidden.ResourceNotFound"),
        (
            "X=app/db#nope",
            1,
            "X from app/db: the value has no member nope",
        ),
        (
            "X=plain#user",
            1,
            "X from plain: the field user needs a value that is JSON",
        ),
        ("X=zero", 1, "X from zero: the value has a zero byte"),
        ("PLAIN=app/db", 2, "PLAIN is asked for twice"),
        ("X", 2, "VAR=SECRET_ID"),
        ("=plain", 2, "may be empty"),
        ("X=", 2, "may be empty"),
        ("X=plain#", 2, "may be empty"),
    ] {
        let output = exec(&agent, &["PLAIN=plain", variable], &["touch", "started"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{variable}: {said}");
        assert!(said.contains(expected), "{variable}: {said}");
        assert!(!said.contains("canary"), "{said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_stands_in_the_way_is_told() {
    let (cloud, agent) = house();
    cloud.put("huge", &"x".repeat(200_000));
    let fails = |mut command: Command, code: i32, expected: &str| {
        let output = command.output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(expected), "{said}");
    };
    let wanted = ["PLAIN=plain"];
    fails(
        exec(&agent, &wanted, &["no-such-command"]),
        127,
        "there is no such command",
    );
    fails(
        exec(&agent, &wanted, &["/no/such/command"]),
        127,
        "there is no such command",
    );
    let folder = tempfile::tempdir().unwrap();
    for (name, text, mode, why) in [
        ("data", "x", 0o644, "Permission denied"),
        (
            "script",
            "#!/no/such/interpreter\n",
            0o755,
            "the interpreter in its first line is missing",
        ),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        fails(exec(&agent, &wanted, &[path.to_str().unwrap()]), 126, why);
    }
    fails(
        exec(&agent, &wanted, &[folder.path().to_str().unwrap()]),
        126,
        "cannot be run",
    );
    fails(
        exec(&agent, &["HUGE=huge"], &["true"]),
        1,
        "too large for an environment",
    );
    fails(exec(&agent, &wanted, &[]), 2, "CMD");
    fails(exec(&agent, &[], &["true"]), 2, "--env");
    let mut stranger = exec(&agent, &wanted, &["true"]);
    stranger.env("KMS_TOKEN", "another-token-0123456789");
    fails(stranger, 1, "InvalidToken");
    let mut tokenless = exec(&agent, &wanted, &["true"]);
    tokenless.env_remove("KMS_TOKEN");
    fails(tokenless, 78, "no token");
    let gone = exec(&agent, &wanted, &["true"]);
    agent.stop();
    fails(gone, 1, "no agent answers");
}
