use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kms-emulator"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn post(address: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /_emulator HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn the_program_serves_until_it_is_interrupted() {
    let mut child = program()
        .args([
            "--secret",
            "app/db=hunter2",
            "--access-key",
            "LTAIx:topsecret",
        ])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let address = line.strip_prefix("emulator on http://").unwrap();
    let answer = post(address, r#"{"delete_secret":{"name":"app/db"}}"#).await;
    assert!(answer.ends_with(r#"{"deleted":true}"#), "{answer}");

    let id = child.id().unwrap().to_string();
    let sent = Command::new("kill")
        .args(["-INT", &id])
        .status()
        .await
        .unwrap();
    assert!(sent.success());
    let ended = tokio::time::timeout(Duration::from_mins(1), child.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(0));
    assert_eq!(lines.next_line().await.unwrap(), None);
}

#[tokio::test]
async fn the_program_writes_its_authority_and_can_take_no_orders() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let mut child = program()
        .args(["--https", "--no-control", "--ca-out"])
        .arg(&path)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    assert!(line.starts_with("emulator on https://127.0.0.1:"), "{line}");
    let key = lines.next_line().await.unwrap().unwrap();
    assert!(
        key.starts_with("export ALIBABA_CLOUD_ACCESS_KEY_ID=LTAI"),
        "{key}"
    );
    let pem = std::fs::read_to_string(&path).unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"));
    child.kill().await.unwrap();
}

#[tokio::test]
async fn wrong_usage_exits_with_2_and_does_not_repeat_secrets() {
    for arguments in [
        &["--access-key", "hunter2"][..],
        &["--ca-out", "x"],
        &["--secret", "=hunter2"],
    ] {
        let output = program().args(arguments).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
    }
}
