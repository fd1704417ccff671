//! `/agent/status` and `/agent/purge`.

use std::process::{Command, Output};

use kms_agent_emulator::{Fault, FaultKind};
use kms_agent_test_support::{TOKEN, TestAgent, http};
use serde_json::Value;

use crate::harness::cloud::{BINARY, Cloud};

fn post(agent: &TestAgent, target: &str) -> http::Reply {
    let port = agent.port();
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: localhost:{port}\r\nX-KMS-Token: {TOKEN}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    http::send(port, request.as_bytes()).unwrap()
}

fn command(agent: &TestAgent, arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .args(["--port", &agent.port().to_string()])
        .env_clear()
        .env("KMS_TOKEN", TOKEN)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_purge_by_name_drops_every_version_and_the_arn_and_nothing_else() {
    let cloud = Cloud::start();
    cloud.put("app/db", "old");
    cloud.put("app/db", "new");
    cloud.put("other", "value");
    let agent = cloud.setup().start();
    let arn = format!("acs:kms:cn-hangzhou:{}:secret/app/db", cloud.account_id());
    for query in ["app/db", "app/db&versionStage=ACSPrevious", &arn, "other"] {
        assert_eq!(agent.read(query).status, 200);
    }
    let purged = post(&agent, "/agent/purge?secretId=app%2Fdb");
    assert_eq!((purged.status, purged.text()), (200, r#"{"purged":3}"#));
    assert!(
        agent
            .read("other")
            .header("cache-status")
            .unwrap()
            .starts_with("kms-agent; hit")
    );
    assert_eq!(
        agent.read("app/db").header("cache-status"),
        Some("kms-agent; fwd=miss; stored")
    );

    assert_eq!(
        stdout(&command(&agent, &["purge", "app/db"])),
        "1 entry purged\n"
    );
    assert_eq!(
        stdout(&command(&agent, &["purge", "--all"])),
        "1 entry purged\n"
    );
    assert_eq!(agent.get("/agent/purge?all=true").status, 405);
    assert_eq!(
        post(&agent, "/agent/purge").json()["Code"],
        "MissingParameter"
    );
}

#[test]
fn while_kms_fails_the_whole_cache_goes_only_by_force() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud.setup().start();
    agent.read("s");
    cloud.fault(Fault::new(FaultKind::Cut)).unwrap();
    agent.read("s&refreshNow=true");
    let kept = command(&agent, &["purge", "--all"]);
    assert_eq!(kept.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&kept.stderr).contains("--force"));
    assert_eq!(agent.read("s").status, 200);
    assert_eq!(
        stdout(&command(&agent, &["purge", "--all", "--force"])),
        "1 entry purged\n"
    );
    assert_eq!(agent.read("s").status, 503);
}

#[test]
fn status_tells_what_is_held_and_never_a_value() {
    let cloud = Cloud::start();
    cloud.put("app/db", "canary-value");
    let version = cloud.put("zoo", "canary-value");
    let agent = cloud
        .setup()
        .and_config("[Cache]\nPrefetch = [\"app/db\", \"missing\"]\n")
        .start();
    for _ in 0..3 {
        agent.read("zoo");
    }
    while http::get(agent.port(), "/readyz", &[]).status != 200 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let reply = agent.get("/agent/status");
    let status = reply.json();
    assert!(!reply.text().contains("canary"), "{}", reply.text());
    assert_eq!(status["pid"], agent.pid());
    assert_eq!(status["cache"]["backend"], "InMemory");
    assert_eq!(
        (&status["cache"]["entries"], &status["cache"]["capacity"]),
        (&Value::from(2), &Value::from(1000))
    );
    assert_eq!(status["cache"]["store"], Value::Null);
    assert_eq!(status["upstream"]["state"], "ok");
    assert_eq!(status["credentials"]["provider"], "environment");
    assert_eq!(status["prefetch"][0]["state"], "done");
    assert_eq!(status["prefetch"][1]["error"], "Forbidden.ResourceNotFound");
    let names: Vec<&str> = status["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["app/db", "zoo"]);
    let zoo = &status["entries"][1];
    assert_eq!(
        (&zoo["state"], &zoo["hits"], &zoo["selector"]),
        (&"fresh".into(), &Value::from(2), &"ACSCurrent".into())
    );
    assert_eq!(zoo["version_id"], version);
    assert_eq!(status["truncated"], false);

    let table = stdout(&command(&agent, &["status"]));
    assert!(
        table.contains("NAME") && table.contains("zoo") && !table.contains("canary"),
        "{table}"
    );
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    let json: Value =
        serde_json::from_str(&stdout(&command(&agent, &["status", "--json"]))).unwrap();
    assert_eq!(json["entries"].as_array().unwrap().len(), 2);
    assert_eq!(http::get(agent.port(), "/agent/status", &[]).status, 403);
}
