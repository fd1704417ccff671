//! Commands of the official integration guide, word for word except endpoint and port.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::child::KillOnDrop;
use crate::harness::cloud::{BINARY, Cloud};

/// Config file of the guide, with the two changes.
fn config(endpoint: &str) -> String {
    format!(
        r#"[Server]
HttpPort = 0

[KMS]
Region = "cn-hangzhou"
Endpoint = "{endpoint}"

[Cache]
CacheType = "InMemory"
CacheSize = 1000
TtlSeconds = 300

[Log]
LogLevel = "Debug"
LogPath = "./logs/"
MaxSize = 100
MaxBackups = 2
"#
    )
}

/// A shell in `folder` that finds the binary by its name.
fn shell(folder: &Path, script: &str) -> Command {
    let bin = Path::new(BINARY).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command
        .args(["-euc", script])
        .current_dir(folder)
        .env("PATH", path)
        .stdin(Stdio::null());
    command
}

#[test]
fn the_guide_works_word_for_word() {
    let cloud = Cloud::start();
    let old = cloud.put("app/db", "the old value");
    cloud.put("app/db", "the value");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.toml"), config(cloud.base_url())).unwrap();

    let made = shell(folder.path(), "alibabacloud-kms-agent token ./kmstoken")
        .output()
        .unwrap();
    assert!(made.status.success());

    let key = cloud.access_key();
    let mut agent = KillOnDrop(
        shell(
            folder.path(),
            &format!(
                "export KMS_TOKEN=file://$PWD/kmstoken ALIBABA_CLOUD_ACCESS_KEY_ID={} ALIBABA_CLOUD_ACCESS_KEY_SECRET={}\n\
                 exec alibabacloud-kms-agent agent ./config.toml",
                key.id(),
                key.expose_secret()
            ),
        )
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap(),
    );
    let port = BufReader::new(agent.0.stderr.take().unwrap())
        .lines()
        .find_map(|line| {
            Some(
                line.unwrap()
                    .split_once("listening on 127.0.0.1:")?
                    .1
                    .to_owned(),
            )
        })
        .expect("the ready line is on stderr");

    for (query, expected) in [
        ("app/db", "the value"),
        ("app/db&versionStage=ACSPrevious", "the old value"),
        (&format!("app/db&versionId={old}"), "the old value"),
    ] {
        let read = shell(
            folder.path(),
            &format!(
                "curl --silent --fail --noproxy '*' -H \"X-KMS-Token:$(<kmstoken)\" 'http://localhost:{port}/secretsmanager/get?secretId={query}'"
            ),
        )
        .output()
        .unwrap();
        assert!(
            read.status.success(),
            "{query}: {}",
            String::from_utf8_lossy(&read.stderr)
        );
        let answer: serde_json::Value = serde_json::from_slice(&read.stdout).unwrap();
        assert_eq!(answer["SecretData"], expected);
    }
    let log = std::fs::read_to_string(folder.path().join("logs/kms-agent.log")).unwrap();
    assert!(
        log.contains(&format!("listening on 127.0.0.1:{port}")),
        "{log}"
    );
    assert!(!log.contains("the value"), "{log}");
}
