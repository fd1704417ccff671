//! Files that the agent keeps equal to secrets.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kms_agent_emulator::{Action, Fault};
use kms_agent_test_support::{TestAgent, http};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::cloud::{BINARY, Cloud};

const LIMIT: Duration = Duration::from_secs(30);

/// Watched secrets are checked as often as is allowed.
const CACHE: &str = "[Cache]\nWatchSeconds = 5\n";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn table(path: &Path, lines: &str) -> String {
    format!("[[File]]\nPath = \"{}\"\n{lines}\n", path.display())
}

fn wait_until(agent: &TestAgent, what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(
            began.elapsed() < LIMIT,
            "still waiting: {what}; log:\n{}",
            agent.stderr()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn holds(path: &Path, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|found| found == text)
}

fn readiness(agent: &TestAgent) -> (u16, Value) {
    let reply = http::get(agent.port(), "/readyz", &[]);
    (reply.status, reply.json()["checks"]["files"].clone())
}

fn files(agent: &TestAgent) -> Vec<Value> {
    let status = agent.get("/agent/status").json();
    status["files"].as_array().unwrap().clone()
}

#[test]
fn a_file_follows_its_secret_through_rotation_and_outage() {
    let cloud = Cloud::start();
    cloud.put("app/db", r#"{"USER":"app","PASSWORD":"first $1"}"#);
    cloud.put("app/key", "aGVsbG8=");
    let folder = folder();
    let (env, key, page) = (
        folder.path().join("db.env"),
        folder.path().join("key"),
        folder.path().join("page"),
    );
    let template = folder.path().join("page.tmpl");
    fs::write(
        &template,
        "{{ secret('app/db').USER }}:{{ secret('app/key') }}\n",
    )
    .unwrap();
    let agent = cloud
        .setup()
        .and_config(CACHE)
        .and_config(&table(&env, "SecretId = \"app/db\"\nFormat = \"Env\""))
        .and_config(&table(
            &key,
            "SecretId = \"app/key\"\nFormat = \"Base64\"\nMode = \"0440\"",
        ))
        .and_config(&table(
            &page,
            &format!("Template = \"{}\"", template.display()),
        ))
        .start();
    wait_until(&agent, "ready", || readiness(&agent).0 == 200);
    assert!(holds(&env, "USER=app\nPASSWORD=\"first \\$1\"\n"));
    assert!(holds(&key, "hello"));
    assert!(holds(&page, "app:aGVsbG8=\n"));
    assert_eq!(fs::metadata(&env).unwrap().mode() & 0o7777, 0o400);
    assert_eq!(fs::metadata(&key).unwrap().mode() & 0o7777, 0o440);
    let check = readiness(&agent).1;
    assert_eq!((&check["total"], &check["written"]), (&3.into(), &3.into()));
    let untouched = fs::metadata(&key).unwrap().ino();

    let version = cloud.put("app/db", r#"{"USER":"other","PASSWORD":"hunter2"}"#);
    wait_until(&agent, "the new value", || {
        holds(&env, "USER=other\nPASSWORD=hunter2\n") && holds(&page, "other:aGVsbG8=\n")
    });
    assert_eq!(fs::metadata(&key).unwrap().ino(), untouched);
    let status = files(&agent);
    assert_eq!(status[0]["path"], env.to_str().unwrap());
    assert_eq!(status[0]["secret"], "app/db");
    assert_eq!(status[0]["version"], version);
    assert_eq!(status[0]["state"], "written");
    assert!(status[0]["written_at"].is_string());
    assert_eq!(status[2]["secret"], "app/db, app/key");
    let shown = agent.get("/agent/status");
    assert!(!shown.text().contains("hunter2") && !agent.stderr().contains("hunter2"));

    cloud
        .fault(Fault::status(500, "InternalFailure").on(Action::GetSecretValue))
        .unwrap();
    std::thread::sleep(Duration::from_secs(7));
    assert!(holds(&env, "USER=other\nPASSWORD=hunter2\n"));
    assert_eq!(readiness(&agent).0, 200);
}

#[test]
fn the_first_pass_fetches_the_secrets_of_all_files_by_shared_calls() {
    let cloud = Cloud::start();
    let folder = folder();
    let mut tables = String::new();
    let path = |index: usize| folder.path().join(index.to_string());
    for index in 0..25 {
        if index > 0 {
            cloud.put(&format!("app/{index}"), &format!("value {index}"));
        }
        let lines = format!("SecretId = \"app/{index}\"");
        tables += &table(&path(index), &lines);
    }
    let agent = cloud.setup().and_config(&tables).start();
    wait_until(&agent, "the first pass", || readiness(&agent).0 == 200);
    for index in 1..25 {
        assert!(holds(&path(index), &format!("value {index}")), "{index}");
    }
    assert!(!path(0).exists(), "KMS has no such secret");
    assert_eq!(cloud.count_calls(Action::BatchGetSecretValue), 2);
    let calls = cloud.calls();
    let is_single = |name: &Option<String>| name.as_ref().is_some_and(|it| it.starts_with("app/"));
    assert!(
        !calls.iter().any(|call| is_single(&call.secret)),
        "{calls:?}"
    );
}

#[test]
fn a_refusal_removes_the_file_or_keeps_it_as_configured() {
    let cloud = Cloud::start();
    for name in ["auto", "keep", "denied", "remove"] {
        cloud.put(name, "value");
    }
    let folder = folder();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let agent = cloud
        .setup()
        .and_config(CACHE)
        .and_config(&table(&path("auto"), "SecretId = \"auto\""))
        .and_config(&table(
            &path("keep"),
            "SecretId = \"keep\"\nOnRefusal = \"Keep\"",
        ))
        .and_config(&table(&path("denied"), "SecretId = \"denied\""))
        .and_config(&table(
            &path("remove"),
            "SecretId = \"remove\"\nOnRefusal = \"Remove\"",
        ))
        .start();
    wait_until(&agent, "ready", || readiness(&agent).0 == 200);
    for name in ["auto", "keep"] {
        cloud.delete_secret(name);
    }
    for name in ["denied", "remove"] {
        cloud.deny_secret(name);
    }
    wait_until(&agent, "both are removed and the others failed", || {
        readiness(&agent).1["failed"] == 4 && !path("auto").exists() && !path("remove").exists()
    });
    assert!(holds(&path("keep"), "value") && holds(&path("denied"), "value"));
    let status = files(&agent);
    assert_eq!(status[0]["state"], "removed");
    assert_eq!(status[0]["error"], "Forbidden.ResourceNotFound");
    assert_eq!(status[1]["state"], "failed");
    assert_eq!(readiness(&agent).1["state"], "degraded");
    cloud.put("auto", "again");
    wait_until(&agent, "the file is back", || holds(&path("auto"), "again"));
}

#[test]
fn a_file_that_cannot_be_made_says_why_and_the_old_one_stays() {
    let cloud = Cloud::start();
    cloud.put("app/db", r#"{"user":"hunter2"}"#);
    let folder = folder();
    let (page, env) = (folder.path().join("page"), folder.path().join("env"));
    fs::write(&page, "old").unwrap();
    let template = folder.path().join("page.tmpl");
    fs::write(&template, "{{ secret('app/db').pasword }}").unwrap();
    let agent = cloud
        .setup()
        .and_config(CACHE)
        .and_config(&table(
            &page,
            &format!("Template = \"{}\"", template.display()),
        ))
        .and_config(&table(
            &env,
            "SecretId = \"app/db\"\nFormat = \"Field\"\nField = \"password\"",
        ))
        .start();
    wait_until(&agent, "the first pass", || {
        readiness(&agent).1["failed"] == 2
    });
    assert_eq!(readiness(&agent).0, 200);
    assert!(holds(&page, "old") && !env.exists());
    let log = agent.stderr();
    assert!(
        log.contains("the value of app/db has no member pasword"),
        "{log}"
    );
    assert!(log.contains("the value has no member password"), "{log}");
    assert!(!agent.stderr().contains("hunter2"));

    fs::write(&template, "{{ secret('app/db').user }}").unwrap();
    agent.signal(Signal::HUP);
    wait_until(&agent, "the corrected template", || holds(&page, "hunter2"));
}

#[test]
fn a_reload_adds_and_removes_files_and_shutdown_removes_them() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let folder = folder();
    let (first, second, third) = (
        folder.path().join("first"),
        folder.path().join("second"),
        folder.path().join("third"),
    );
    let removed = "SecretId = \"s\"\nOnStop = \"Remove\"";
    let leftover = folder.path().join(".first.kms-agent-0123456789abcdef");
    fs::write(&leftover, "torn").unwrap();
    let agent = cloud
        .setup()
        .and_config(&table(&first, removed))
        .and_config(&table(&second, removed))
        .start();
    wait_until(&agent, "both files", || {
        holds(&first, "value") && holds(&second, "value")
    });
    assert!(!leftover.exists());
    let config = agent.folder().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace(&table(&first, removed), &table(&third, "SecretId = \"s\""));
    fs::write(&config, text).unwrap();
    agent.signal(Signal::HUP);
    wait_until(&agent, "the third file", || {
        holds(&third, "value") && !first.exists()
    });
    assert_eq!(files(&agent).len(), 2);
    let (status, log) = agent.stop();
    assert!(status.success(), "{log}");
    assert!(!second.exists() && holds(&third, "value"));
}

#[test]
fn problems_of_file_tables_are_reported_together() {
    let folder = folder();
    let config = folder.path().join("config.toml");
    fs::write(
        &config,
        "[[File]]\nSecretId = \"a\"\n[[File]]\nPath = \"/run/x\"\n[[File]]\nPath = \"/run/y\"\nSecretId = \"a\"\n\
         Format = \"Field\"\n[[File]]\nPath = \"/run/y\"\nTemplate = \"t\"\nField = \"f\"\n[[File]]\nPath = \"/run/z\"\n\
         SecretId = \"a\"\nMode = \"0666\"\nFormat = \"Yaml\"\nOwner = 1\n",
    )
    .unwrap();
    let output = Command::new(BINARY)
        .args(["check", "--offline"])
        .arg(&config)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let stderr = String::from_utf8(output.stderr).unwrap();
    for line in [
        ":1: File.Path: must be the path of a file",
        ":3: File.SecretId: is missing",
        ":5: File.Field: is missing",
        ":12: File.Field: does not go with Template",
        ":16: File.Mode: must let neither the group nor others write the file",
        ":17: File.Format: must be one of Raw, Base64, Field, Json, Env",
        ":18: File.Owner: unknown key",
    ] {
        assert!(stderr.contains(line), "no {line} in {stderr}");
    }
}

#[test]
fn check_says_which_files_cannot_be_written() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let folder = folder();
    let good = folder.path().join("good");
    let missing = folder.path().join("missing/file");
    let config = folder.path().join("config.toml");
    let tables = table(&good, "SecretId = \"s\"") + &table(&missing, "SecretId = \"s\"");
    fs::write(
        &config,
        format!(
            "[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\n{tables}",
            cloud.base_url()
        ),
    )
    .unwrap();
    let output = Command::new(BINARY)
        .arg("check")
        .arg(&config)
        .env("KMS_TOKEN", "0123456789abcdef0123456789abcdef")
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("good can be written"), "{stdout}");
    assert!(
        stdout.contains("missing does not exist; create it"),
        "{stdout}"
    );
    assert!(!good.exists());
}
