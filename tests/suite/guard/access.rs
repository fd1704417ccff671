//! Callers with rights of their own.

use std::fs;
use std::time::{Duration, Instant};

use kms_agent_test_support::{Setup, TOKEN, TestAgent, http};
use rustix::process::Signal;

use crate::harness::cloud::{BINARY, Cloud};

const CLIENTS: &str = r#"
[[Client]]
Name = "app"
TokenFile = "app.token"
Secrets = ["app/*"]
[[Client]]
Name = "web"
TokenFile = "web.token"
Secrets = ["web/*"]
[[Client]]
Name = "operator"
TokenFile = "operator.token"
Admin = true
"#;

fn start(cloud: &Cloud) -> TestAgent {
    cloud
        .setup()
        .edit_config(|text| text.replace("[Server]", "[Server]\nDefaultSecrets = [\"own/*\"]"))
        .and_config(CLIENTS)
        .start()
}

fn token(agent: &TestAgent, client: &str) -> String {
    fs::read_to_string(agent.folder().join(format!("{client}.token"))).unwrap()
}

fn send(agent: &TestAgent, method: &str, target: &str, token: &str) -> http::Reply {
    let port = agent.port();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost:{port}\r\nX-KMS-Token: {token}\r\nConnection: close\r\n\r\n"
    );
    http::send(port, request.as_bytes()).unwrap()
}

fn names(reply: &http::Reply) -> Vec<String> {
    let body = reply.json();
    let entries = body["entries"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| entry["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn each_client_reads_sees_and_purges_its_own_secrets_only() {
    let cloud = Cloud::start();
    for name in ["app/db", "web/db", "own/db"] {
        cloud.put(name, "value");
    }
    let agent = start(&cloud);
    let (app, web) = (token(&agent, "app"), token(&agent, "web"));
    let operator = token(&agent, "operator");
    for (token, readable) in [(&*app, "app/db"), (&web, "web/db"), (TOKEN, "own/db")] {
        for name in ["app/db", "web/db", "own/db", "app/missing", "missing"] {
            for target in [
                format!("/v1/{name}"),
                format!("/secretsmanager/get?secretId={name}&refreshNow=true"),
            ] {
                let before = cloud.reads();
                let reply = send(&agent, "GET", &target, token);
                let is_own = name.split('/').next() == readable.split('/').next();
                let expected = match (is_own, name == readable) {
                    (true, true) => 200,
                    (true, false) => 404,
                    (false, _) => 403,
                };
                assert_eq!(reply.status, expected, "{target}: {}", reply.text());
                if !is_own {
                    assert_eq!(reply.json()["Code"], "AccessDenied");
                    assert_eq!(cloud.reads(), before, "KMS is not asked");
                }
            }
        }
        assert_eq!(
            names(&send(&agent, "GET", "/agent/status", token)),
            [readable]
        );
        assert_eq!(
            send(&agent, "POST", "/agent/purge?all=true", token).status,
            403
        );
        assert_eq!(
            send(&agent, "POST", "/agent/purge?secretId=other", token).status,
            403
        );
    }
    let texts: Vec<String> = ["web/db", "missing"]
        .map(|name| {
            send(&agent, "GET", &format!("/v1/{name}"), &app)
                .text()
                .to_owned()
        })
        .into();
    assert_eq!(
        texts[0], texts[1],
        "existing and missing secrets look alike"
    );

    assert_eq!(send(&agent, "GET", "/v1/app/db", &operator).status, 403);
    let status = send(&agent, "GET", "/agent/status", &operator);
    assert_eq!(names(&status), ["app/db", "own/db", "web/db"]);
    assert!(status.json()["refused"]["web"].as_u64() > Some(5));
    let purged = send(&agent, "POST", "/agent/purge?secretId=app%2Fdb", &app);
    assert_eq!(purged.json()["purged"], 1);
    let purged = send(&agent, "POST", "/agent/purge?all=true", &operator);
    assert_eq!(purged.json()["purged"], 2);
}

#[test]
fn a_reload_changes_rights_and_a_replaced_token_ends() {
    let cloud = Cloud::start();
    cloud.put("app/db", "value");
    let agent = start(&cloud);
    let web = token(&agent, "web");
    assert_eq!(send(&agent, "GET", "/v1/app/db", &web).status, 403);
    let config = agent.folder().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"web/*\"", "\"app/d?\"")).unwrap();
    agent.signal(Signal::HUP);
    until("the right counts", || {
        send(&agent, "GET", "/v1/app/db", &web).status == 200
    });

    let made = agent.folder().join("made");
    fs::write(&made, "another-token-0123456789").unwrap();
    fs::rename(&made, agent.folder().join("web.token")).unwrap();
    until("the old token ends", || {
        send(&agent, "GET", "/v1/app/db", &web).status == 403
    });
    let reply = send(&agent, "GET", "/v1/app/db", "another-token-0123456789");
    assert_eq!(reply.status, 200);

    fs::write(&config, format!("{text}User = \"no-such-user\"\n")).unwrap();
    agent.signal(Signal::HUP);
    until("the refusal is logged", || {
        agent.stderr().contains("The clients could not be opened")
    });
    let reply = send(&agent, "GET", "/v1/app/db", "another-token-0123456789");
    assert_eq!(reply.status, 200, "the clients in force stay");
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "still waiting: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn clients_that_cannot_be_told_apart_stop_the_start() {
    for (clients, said) in [
        ("[[Client]]\nName = \"a\"\n", "at least one of TokenFile"),
        (
            "[[Client]]\nName = \"a\"\nUser = \"no-such-user\"\n",
            "Client a: its User is not known here",
        ),
        (
            "[[Client]]\nName = \"default\"\nUser = 0\n",
            "choose another",
        ),
        (
            "[[Client]]\nName = \"a\"\nUser = 0\n[[Client]]\nName = \"a\"\nUser = 1\n",
            "the same Name twice",
        ),
        (
            "[[Client]]\nName = \"a\"\nTokenFile = \"t\"\n[[Client]]\nName = \"b\"\nTokenFile = \"t\"\n",
            "the same TokenFile twice",
        ),
        (
            "[[Client]]\nName = \"a\"\nTokenFile = \"t\"\n[[Client]]\nName = \"b\"\nTokenFile = \"./t\"\n",
            "is that of another caller",
        ),
        (
            "[[Client]]\nName = \"a\"\nUser = 0\nSecrets = [\"\"]\n",
            "a pattern that is empty",
        ),
    ] {
        let (status, log) = Setup::new(BINARY).and_config(clients).run();
        assert_eq!(status.code(), Some(78), "{log}");
        assert!(log.contains(said), "{said}:\n{log}");
    }
}
