//! `check`: each failure is provoked, and reported on one line with its remedy.

mod identity;
mod local;
mod upstream;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kms_agent_test_support::TOKEN;
use serde_json::Value;

use crate::harness::cloud::{BINARY, Cloud};

/// Longest line that `check` prints.
const LINE: usize = 300;

/// A `check` command with its config and environment.
struct Check {
    folder: tempfile::TempDir,
    config: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Command that starts the binary, if not the test itself.
    wrapper: &'static [&'static str],
}

/// Starter in an empty network namespace.
const ALONE: &[&str] = &["unshare", "--map-root-user", "--net"];

/// Starter without the capabilities that let root ignore permissions.
const UNPRIVILEGED: &[&str] = &[
    "setpriv",
    "--bounding-set",
    "-dac_override,-dac_read_search",
];

/// Output of `check`.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Check {
    /// Creates a check with a token in the environment, a free port, the key of `cloud`, and `endpoint`.
    fn of(cloud: &Cloud, endpoint: &str) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            config: format!("[Server]\nHttpPort = 0\n[KMS]\nEndpoint = \"{endpoint}\"\n"),
            arguments: Vec::new(),
            environment: Vec::new(),
            wrapper: &[],
        }
        .env("KMS_TOKEN", TOKEN)
        .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", cloud.access_key().id())
        .env(
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
            cloud.access_key().expose_secret(),
        )
    }

    /// Creates a check of `cloud` itself.
    fn new(cloud: &Cloud) -> Self {
        Self::of(cloud, cloud.base_url())
    }

    fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Adds lines to the config file, which ends in the table `KMS`.
    fn config(mut self, text: &str) -> Self {
        self.config.push_str(text);
        self
    }

    fn ca_file(self, path: &Path) -> Self {
        self.config(&format!("CaFile = \"{}\"\n", path.display()))
    }

    fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    fn secret(self, name: &str) -> Self {
        self.argument("--secret").argument(name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self) -> Said {
        std::fs::write(self.path("config.toml"), &self.config).unwrap();
        let mut words = self.wrapper.iter().copied().chain([BINARY]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        let output = command
            .arg("check")
            .args(&self.arguments)
            .arg("config.toml")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(self.environment.iter().cloned())
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let said = Said::from(output);
        for (name, value) in &self.environment {
            if (name.ends_with("SECRET") || name.ends_with("TOKEN")) && value.len() >= 16 {
                assert!(
                    !said.stdout.contains(value) && !said.stderr.contains(value),
                    "{name} is printed: {said:?}"
                );
            }
        }
        for line in said.stdout.lines().chain(said.stderr.lines()) {
            assert!(
                line.len() <= LINE || line.starts_with('{'),
                "too long: {line}"
            );
        }
        said
    }

    /// Runs it and expects only `step` to fail, with `code` and a line that contains all of `words`.
    fn fails(&self, code: i32, step: &str, words: &[&str]) -> Said {
        let said = self.run();
        let failed: Vec<&str> = said
            .stdout
            .lines()
            .filter(|line| line.starts_with("FAILED"))
            .collect();
        assert_eq!(failed.len(), 1, "one step was expected to fail: {said:?}");
        let line = failed[0];
        assert_eq!(line.split_whitespace().nth(1), Some(step), "{said:?}");
        for word in words {
            assert!(line.contains(word), "{word} is not in: {line}");
        }
        assert_eq!(said.code, Some(code), "{said:?}");
        assert!(said.stderr.contains("1 of 11 steps failed"), "{said:?}");
        said
    }

    /// Runs it and expects no failure.
    fn passes(&self) -> Said {
        let said = self.run();
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(said.stderr, "");
        said
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Said {
    /// Returns the lines about `step`.
    fn line(&self, step: &str) -> &str {
        self.stdout
            .lines()
            .find(|line| line.split_whitespace().nth(1) == Some(step))
            .unwrap_or_else(|| unreachable!("nothing of {step}: {self:?}"))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

#[test]
fn when_all_is_well_every_step_has_a_line_that_says_so() {
    let cloud = Cloud::start();
    cloud.put("app/db", "hunter2 hunter2");
    let check = Check::new(&cloud).secret("app/db");
    let said = check.passes();
    let steps: Vec<(&str, &str)> = said
        .stdout
        .lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            (words.next().unwrap(), words.next().unwrap())
        })
        .collect();
    let expected = [
        "config",
        "token",
        "port",
        "cache",
        "process",
        "region",
        "credentials",
        "dns",
        "endpoint",
        "clock",
        "kms",
    ]
    .map(|step| ("ok", step));
    assert_eq!(steps, expected);
    assert!(!said.stdout.contains("hunter2"));
    assert_eq!(
        std::fs::read_dir(check.folder.path()).unwrap().count(),
        1,
        "something was made"
    );
}

#[test]
fn without_a_secrets_name_kms_is_only_asked_whether_it_knows_the_credentials() {
    let cloud = Cloud::start();
    let said = Check::new(&cloud).passes();
    assert!(said.line("kms").contains("credentials are accepted"));
    assert_eq!(cloud.reads(), 1);
    cloud.deny_secret("alibabacloud-kms-agent-check");
    assert!(
        Check::new(&cloud)
            .passes()
            .line("kms")
            .contains("credentials are accepted")
    );
}

#[test]
fn programs_get_the_same_as_json() {
    let cloud = Cloud::start();
    let said = Check::new(&cloud).argument("--json").passes();
    let report = said.json();
    assert_eq!(report["ok"], true);
    assert_eq!(report["problems"].as_array().unwrap().len(), 0);
    assert_eq!(report["steps"].as_array().unwrap().len(), 11);
    assert_eq!(report["steps"][6]["step"], "credentials");
    assert_eq!(report["steps"][6]["state"], "ok");

    let key = cloud.access_key().id().to_owned();
    cloud.set_access_key_enabled(&key, false);
    let said = Check::new(&cloud).argument("--json").run();
    assert_eq!(said.code, Some(1));
    let report = said.json();
    assert_eq!(report["ok"], false);
    let kms = &report["steps"][10];
    assert_eq!(kms["state"], "failed");
    assert!(kms["detail"].as_str().unwrap().contains("Inactive"));
    assert!(kms["remedy"].as_str().unwrap().contains("enable it"));
}
