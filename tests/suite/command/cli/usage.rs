//! Wrong usage and missing tokens: messages and exit codes.

use super::{client, run, stderr, stdout};
use crate::harness::cloud::Cloud;

#[test]
fn wrong_usage_says_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (
            &["config.toml"][..],
            "did you mean 'alibabacloud-kms-agent agent config.toml'?",
        ),
        (&["dve"], "'dev'"),
        (&["stauts"], "'status'"),
        (
            &["exec", "-e", "X=a", "ls"],
            "put -- before the command: 'alibabacloud-kms-agent exec -e X=a -- ls'",
        ),
        (
            &["get", "--port", "99999", "a"],
            "a port from 1024 to 65535",
        ),
        (&["status", "--port", "80"], "a port from 1024 to 65535"),
        (
            &["dev", "--port", "99999"],
            "0 or a port from 1024 to 65535",
        ),
        (&["get", "a", "--field", ""], "it may not be empty"),
        (&["get", ""], "it may not be empty"),
        (&["purge"], "name a secret, or write --all"),
        (&["purge", "--force"], "purge --all --force"),
        (&["purge", "--force", "a"], "--force goes with --all"),
        (
            &["dev", "--persist", "file"],
            "--persist file: this is not a folder",
        ),
        (&["get", "a", "x\u{1b}[2J\u{202e}"], "x\\u{1b}[2J\\u{202e}"),
    ] {
        std::fs::write(folder.path().join("file"), "").unwrap();
        let output = run(
            arguments,
            &[("KMS_TOKEN", "0123456789abcdef")],
            folder.path(),
        );
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(
            said.starts_with("error: ") && said.contains(expected),
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn a_client_is_told_about_its_token() {
    let cloud = Cloud::start();
    cloud.put("a", "x");
    for response_type in 0..=2 {
        let agent = cloud
            .setup()
            .edit_config(|text| {
                text.replacen(
                    "[Server]\n",
                    &format!("[Server]\nResponseType = {response_type}\n"),
                    1,
                )
            })
            .start();
        let port = agent.port().to_string();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "another-token-0123456789").unwrap();
        let path = folder.path().join("token");
        let path = path.to_str().unwrap();
        let url = format!("file://{path}");
        for (variable, value, origin) in [
            (
                "KMS_TOKEN",
                "another-token-0123456789",
                "the token in KMS_TOKEN".to_owned(),
            ),
            (
                "KMS_SESSION_TOKEN",
                "another-token-0123456789",
                "the token in KMS_SESSION_TOKEN".to_owned(),
            ),
            (
                "KMS_TOKEN",
                &url,
                format!("the token in the file {path}, which KMS_TOKEN names"),
            ),
            (
                "KMS_TOKEN_FILE",
                path,
                format!("the token in the file {path}, which KMS_TOKEN_FILE names"),
            ),
        ] {
            let commands = [
                &["get", "a"][..],
                &["status"],
                &["purge", "a"],
                &["purge", "--all"],
            ];
            let count = if response_type == 2 && variable == "KMS_TOKEN" {
                4
            } else {
                1
            };
            for command in commands.iter().take(count) {
                let arguments = [*command, &["--port", &port]].concat();
                let output = run(&arguments, &[(variable, value)], folder.path());
                let said = stderr(&output);
                assert_eq!(output.status.code(), Some(1), "{said}");
                assert!(
                    said.contains("InvalidToken") && said.contains(&origin),
                    "{command:?}: {said}"
                );
                assert!(!said.contains("another-token"), "{said}");
            }
        }
    }
    // A machine with the default token file uses that file.
    if !std::path::Path::new("/var/run/kmstoken").exists() {
        let folder = tempfile::tempdir().unwrap();
        let output = run(&["get", "a"], &[], folder.path());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(
            said.contains("the token file that the agent was started with"),
            "{said}"
        );
        assert!(!said.contains("the agent makes"), "{said}");
    }
}

#[test]
fn the_file_that_client_programs_read_is_read_by_the_commands_too() {
    let cloud = Cloud::start();
    cloud.put("a", "x");
    let agent = cloud.setup().start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), kms_agent_test_support::TOKEN).unwrap();
    let port = agent.port().to_string();
    for value in [
        "token".to_owned(),
        format!("file://{}/token", folder.path().display()),
    ] {
        let output = run(
            &["get", "a", "--port", &port],
            &[("KMS_TOKEN_FILE", &value)],
            folder.path(),
        );
        assert_eq!(stdout(&output), "x", "{}", stderr(&output));
    }
}

#[test]
fn a_purge_that_needs_force_says_how_it_is_written() {
    let cloud = Cloud::start();
    cloud.put("a", "x");
    let agent = cloud.setup().start();
    assert_eq!(agent.read("a").status, 200);
    cloud
        .fault(kms_agent_emulator::Fault::status(503, "ServiceUnavailable"))
        .unwrap();
    // The agent may not have noticed yet.
    let began = std::time::Instant::now();
    let said = loop {
        assert_eq!(agent.read("a&refreshNow=true").status / 100, 5);
        let output = client(&agent, &["purge", "--all"]);
        if output.status.code() != Some(0) {
            break stderr(&output);
        }
        assert!(began.elapsed().as_secs() < 60);
    };
    assert!(
        said.contains("--force") && !said.contains("force=true"),
        "{said}"
    );
    assert!(!said.contains("InvalidParameter"), "{said}");
    let output = client(&agent, &["purge", "--all", "--force"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}
