//! The command line: help, tokens, usage errors, values.

mod page;
mod token;
mod usage;
mod value;

use std::path::Path;
use std::process::{Command, Output};

use kms_agent_emulator::PutSecret;
use kms_agent_test_support::{TOKEN, TestAgent};

use crate::harness::cloud::{BINARY, Cloud};

fn run(arguments: &[&str], environment: &[(&str, &str)], folder: &Path) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(folder)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_command_has_help_with_an_example() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        "agent",
        "check",
        "token",
        "dev",
        "get",
        "exec",
        "watch",
        "status",
        "purge",
        "health",
        "completions",
        "man",
    ] {
        let output = run(&[command, "--help"], &[], folder.path());
        assert_eq!(output.status.code(), Some(0));
        assert!(
            stdout(&output).contains("Example"),
            "{command}: {}",
            stdout(&output)
        );
    }
    let output = run(&["--help"], &[], folder.path());
    assert!(
        stdout(&output).contains("78"),
        "the help lists the exit codes"
    );
}

#[test]
fn wrong_usage_is_2_and_bad_configuration_78() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["nonsense"][..],
        &["agent"],
        &["token"],
        &["get"],
        &["token", "x", "--mode", "9"],
        &[],
    ] {
        let output = run(arguments, &[], folder.path());
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
    let config = folder.path().join("config.toml");
    let token = ("KMS_TOKEN", TOKEN);
    let agent = &["agent", "config.toml"];
    let missing = run(agent, &[token], folder.path());
    assert_eq!(missing.status.code(), Some(78));
    assert!(
        stderr(&missing).contains("config.toml: cannot be read"),
        "{}",
        stderr(&missing)
    );

    std::fs::write(&config, "[Cache]\nCacheType = \"Memcached\"\n").unwrap();
    let unknown = run(agent, &[token], folder.path());
    assert_eq!(unknown.status.code(), Some(78));
    assert!(
        stderr(&unknown)
            .contains("config.toml:2: Cache.CacheType: must be one of InMemory, Persistent, Redis"),
        "{}",
        stderr(&unknown)
    );

    std::fs::write(&config, "[Server]\nHttpPort = 0\n").unwrap();
    for (environment, expected) in [
        (&[][..], "KMS_TOKEN=file:///path/to/kmstoken"),
        (&[("KMS_TOKEN", "")], "it is empty"),
        (&[("KMS_TOKEN", "hunter2")], "7 characters"),
        (&[("KMS_TOKEN", "/run/kmstoken")], "KMS_TOKEN=file:///"),
        (
            &[("KMS_TOKEN", "file:///no/such/folder/kmstoken")],
            "/no/such/folder/kmstoken",
        ),
    ] {
        let output = run(agent, environment, folder.path());
        assert_eq!(
            output.status.code(),
            Some(78),
            "{environment:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(expected),
            "{environment:?}: {}",
            stderr(&output)
        );
        assert!(!stderr(&output).contains("hunter2"));
    }
}

#[test]
fn a_port_that_is_taken_fails_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    std::fs::write(
        folder.path().join("config.toml"),
        format!("[Server]\nHttpPort = {port}\n"),
    )
    .unwrap();
    let output = run(
        &["agent", "config.toml"],
        &[("KMS_TOKEN", TOKEN)],
        folder.path(),
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("Server.HttpPort"),
        "{}",
        stderr(&output)
    );
}

fn client(agent: &TestAgent, arguments: &[&str]) -> Output {
    let port = agent.port().to_string();
    let (command, rest) = arguments.split_first().unwrap();
    let arguments: Vec<&str> = [*command, "--port", &port]
        .into_iter()
        .chain(rest.iter().copied())
        .collect();
    // This proxy does not exist: client commands never use one.
    let proxy = "http://127.0.0.1:1";
    run(
        &arguments,
        &[
            ("KMS_TOKEN", TOKEN),
            ("HTTP_PROXY", proxy),
            ("http_proxy", proxy),
        ],
        agent.folder(),
    )
}

#[test]
fn get_prints_the_value_a_member_or_the_whole_answer() {
    let cloud = Cloud::start();
    let value = r#"{"user":{"name":"app"},"ports":[1,2]}"#;
    let old = cloud.put("app/db +", "old");
    cloud.put("app/db +", value);
    let agent = cloud.setup().start();
    let get = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["get", "app/db +"]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        let output = client(&agent, &arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    assert_eq!(get(&[]), value, "byte for byte, no line break");
    assert_eq!(get(&["--field", "user.name"]), "app");
    assert_eq!(get(&["--field", "ports.1"]), "2");
    assert_eq!(get(&["--field", "user"]), r#"{"name":"app"}"#);
    assert_eq!(get(&["--version-stage", "ACSPrevious"]), "old");
    assert_eq!(get(&["--version-id", &old]), "old");
    let answer: serde_json::Value = serde_json::from_str(&get(&["--json"])).unwrap();
    assert_eq!(answer["SecretName"], "app/db +");
    cloud.put("app/db +", "newest");
    assert_eq!(get(&["--refresh"]), "newest");

    let output = client(&agent, &["get", "missing"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("Forbidden.ResourceNotFound"),
        "{}",
        stderr(&output)
    );
    let output = client(&agent, &["get", "app/db +", "--field", "x"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!stderr(&output).contains("newest"), "{}", stderr(&output));
}

#[test]
fn health_is_0_when_ready_and_1_when_nobody_answers() {
    let cloud = Cloud::start();
    let agent = cloud.setup().start();
    for arguments in [&["health"][..], &["health", "--live"]] {
        let output = client(&agent, arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    let port = agent.port().to_string();
    let folder = tempfile::tempdir().unwrap();
    agent.stop();
    let output = run(&["health", "--port", &port], &[], folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("no agent answers"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn check_offline_tells_every_problem_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, "[Server]\nHttpPort = 2025\n").unwrap();
    let check = |arguments: &[&str]| {
        run(
            &[&["check", "--offline", "config.toml"], arguments].concat(),
            &[],
            folder.path(),
        )
    };
    let good = check(&[]);
    assert_eq!(
        (good.status.code(), stdout(&good).trim_end()),
        (Some(0), "config.toml: ok")
    );
    assert_eq!(
        stdout(&check(&["--json"])).trim_end(),
        r#"{"ok":true,"problems":[],"steps":[{"detail":"config.toml","state":"ok","step":"config"}]}"#
    );

    std::fs::write(
        &config,
        "[Server]\nHttpPort = 80\n[KMS]\nRegoin = \"hunter2\"\n",
    )
    .unwrap();
    let bad = check(&[]);
    assert_eq!(bad.status.code(), Some(78));
    assert!(
        stderr(&bad).contains("config.toml:2: Server.HttpPort")
            && stderr(&bad).contains("did you mean Region?")
    );
    let bad = check(&["--json"]);
    assert_eq!(bad.status.code(), Some(78));
    let report: serde_json::Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!(report["steps"][0]["step"], "config");
    assert_eq!(report["steps"][0]["state"], "failed");
    assert_eq!(report["problems"][1]["line"], 4);
    assert_eq!(report["problems"][1]["key"], "KMS.Regoin");
    assert!(!stdout(&bad).contains("hunter2") && !stderr(&bad).contains("hunter2"));
}

#[test]
fn get_prints_the_value_whatever_the_response_type() {
    let cloud = Cloud::start();
    cloud.put("text", "plain \"text\"");
    cloud.put("json", r#"{"a":"b"}"#);
    cloud
        .put_secret(PutSecret::new("binary", "AAEC").binary())
        .unwrap();
    for response_type in 0..=2 {
        let agent = cloud
            .setup()
            .config(format!(
                "[Server]\nHttpPort = 0\nResponseType = {response_type}\n[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\n[Log]\nLogPath = \"\"\n",
                cloud.base_url()
            ))
            .start();
        for (name, value) in [
            ("text", "plain \"text\""),
            ("json", r#"{"a":"b"}"#),
            ("binary", "AAEC"),
        ] {
            let output = client(&agent, &["get", name]);
            assert_eq!(
                (stdout(&output).as_str(), output.status.code()),
                (value, Some(0)),
                "{response_type} {name}"
            );
        }
        let output = client(&agent, &["get", "missing"]);
        assert!(
            stderr(&output).contains("Forbidden.ResourceNotFound: "),
            "{}",
            stderr(&output)
        );
    }
}
