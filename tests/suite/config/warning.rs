//! Warnings about odd settings, at startup and in `check`: once, and without any value.

use std::process::Command;

use kms_agent_test_support::{Setup, TOKEN};

use crate::harness::cloud::{BINARY, Cloud};

/// Returns the log of an agent that has answered, and the output of `check`.
fn told(cloud: &Cloud, variables: &[(&str, &str)]) -> [String; 2] {
    let setup = variables
        .iter()
        .fold(cloud.setup(), |setup, (name, value)| {
            setup.env(name, *value)
        });
    let agent = setup.start();
    agent.read("s");
    let (_, log) = agent.stop();

    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let text = format!(
        "[Server]\nHttpPort = 0\n[KMS]\nEndpoint = \"{}\"\n[Cache]\n",
        cloud.base_url()
    );
    std::fs::write(&config, text).unwrap();
    let output = Command::new(BINARY)
        .arg("check")
        .arg(&config)
        .env_clear()
        .env("KMS_TOKEN", TOKEN)
        .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", cloud.access_key().id())
        .env(
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
            cloud.access_key().expose_secret(),
        )
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    [log, String::from_utf8(output.stdout).unwrap()]
}

/// Expects one line with `words` in each.
fn assert_told_once(said: &[String; 2], words: &[&str]) {
    for text in said {
        let lines = text.lines();
        let count = lines
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .count();
        assert_eq!(count, 1, "{words:?}:\n{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn quotation_marks_around_credentials() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    for variable in [
        "ALIBABA_CLOUD_ACCESS_KEY_ID",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        "ALIBABA_CLOUD_SECURITY_TOKEN",
    ] {
        let said = told(&cloud, &[(variable, "\"hunter2\"")]);
        assert_told_once(&said, &["begin and end with a quotation mark", variable]);
        // The line about the credentials contains it, too.
        for text in &said {
            let line = format!("{variable} begins and ends with a quotation mark");
            assert!(text.contains(&line), "{text}");
        }
    }
    // The agent does not call KMS with a malformed key.
    assert_eq!(cloud.reads(), 0);
}

#[test]
fn entries_of_no_proxy_that_can_never_match() {
    let cloud = Cloud::start();
    let said = told(
        &cloud,
        &[
            ("HTTPS_PROXY", "http://127.0.0.1:9"),
            (
                "NO_PROXY",
                "*.good.test,*bad.test, good.test;other.test,user:hunter2@x",
            ),
        ],
    );
    assert_told_once(
        &said,
        &[
            "NO_PROXY has entries that can never match",
            "*bad.test",
            "good.test;other.test",
        ],
    );
    assert!(!said.concat().contains("*.good.test"));
    let said = told(&cloud, &[("NO_PROXY", "*bad.test")]);
    assert!(!said.concat().contains("NO_PROXY"), "{said:?}");
}

#[test]
fn credentials_that_come_from_another_machine_in_plain_http() {
    let cloud = Cloud::start();
    let none = [
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", ""),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", ""),
    ];
    let uri = |uri| [&none[..], &[("ALIBABA_CLOUD_CREDENTIALS_URI", uri)]].concat();
    // Nothing listens on this port.
    let said = told(&cloud, &uri("http://localhost.:9/?key=hunter2"));
    assert_told_once(
        &said,
        &[
            "from another machine in plain HTTP",
            "ALIBABA_CLOUD_CREDENTIALS_URI",
        ],
    );
    let near = format!("{}/credentials", cloud.base_url());
    let said = told(&cloud, &uri(&near));
    assert!(!said.concat().contains("plain HTTP, where"), "{said:?}");
}

#[test]
fn a_machine_without_credentials_is_told_the_variables_first() {
    let cloud = Cloud::start();
    let setup = Setup::new(BINARY)
        .and_config(&format!(
            "[KMS]\nEndpoint = \"{}\"\n[Credentials]\nMetadataEndpoint = \"http://127.0.0.1:9\"\n",
            cloud.base_url()
        ))
        .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "false");
    let agent = setup.start();
    assert_eq!(agent.read("s").json()["Code"], "CredentialsUnavailable");
    let (_, log) = agent.stop();
    let line = log
        .lines()
        .find(|line| line.contains("no credentials are configured"))
        .expect(&log);
    let at = |text: &str| line.find(text).expect(line);
    assert!(
        at("ALIBABA_CLOUD_ACCESS_KEY_ID") < at("ALIBABA_CLOUD_ACCESS_KEY_SECRET")
            && at("ALIBABA_CLOUD_ACCESS_KEY_SECRET") < at("RAM role"),
        "{line}"
    );
}
