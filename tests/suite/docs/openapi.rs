//! The OpenAPI document against the routes, the sources and the running agent.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use kms_agent_emulator::{Fault, FaultKind};
use kms_agent_test_support::http::{self, Connection, Reply};
use kms_agent_test_support::{Setup, TOKEN, TestAgent};
use serde_json::{Value, json};

use crate::harness::cloud::{BINARY, Cloud};
use crate::harness::python::{SCRIPTS, python};

const DOCUMENT: &str = include_str!("../../../src/server/openapi.yaml");
const DOCUMENT_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../src/server/openapi.yaml");
const ROUTES: &str = include_str!("../../../src/server/routes.rs");
const PAGE: &str = include_str!("../../../docs/http.md");

/// Paths of the document that read a secret, and the part of a request before the secret's name.
const SECRET_PATHS: [(&str, &str); 3] = [
    ("/secretsmanager/get", "/secretsmanager/get?secretId="),
    ("/v1/{secretId}", "/v1/"),
    ("/v1/secret/data/{secretId}", "/v1/secret/data/"),
];

/// Paths of the document for Vault clients only, with a target of each.
const VAULT_PATHS: [(&str, &str); 3] = [
    ("/v1/auth/token/lookup-self", "/v1/auth/token/lookup-self"),
    (
        "/v1/sys/internal/ui/mounts/{mount}",
        "/v1/sys/internal/ui/mounts/secret/app/db",
    ),
    ("/v1/sys/health", "/v1/sys/health"),
];

/// Secrets and the answers of KMS for them.
fn fault_of(name: &str) -> Option<Fault> {
    Some(match name {
        "denied" => Fault::status(403, "Forbidden.NoPermission"),
        "disabled" => Fault::status(409, "Rejected.Disabled"),
        "odd" => Fault::status(400, "InvalidParameter"),
        "garbage" => Fault::new(FaultKind::Garbage),
        "throttled" => Fault::new(FaultKind::Throttle),
        "cut" => Fault::new(FaultKind::Cut),
        "hung" => Fault::new(FaultKind::Hang),
        "broken" => Fault::status(500, "InternalFailure"),
        _ => return None,
    })
}

/// The names above, and some that KMS answers.
const NAMES: [&str; 12] = [
    "text",
    "binary",
    "object",
    "missing",
    "denied",
    "disabled",
    "odd",
    "garbage",
    "throttled",
    "cut",
    "hung",
    "broken",
];

fn fill(cloud: &Cloud) {
    for prefix in ["", "secret/data/"] {
        cloud.put(&format!("{prefix}text"), "välue");
        cloud.put(&format!("{prefix}object"), r#"{"a":[1,{"b":null}]}"#);
        let binary = kms_agent_emulator::PutSecret::new(format!("{prefix}binary"), "AP8=").binary();
        cloud.put_secret(binary).unwrap();
        for name in NAMES {
            if let Some(fault) = fault_of(name) {
                cloud
                    .fault(fault.on_secret(format!("{prefix}{name}")))
                    .unwrap();
            }
        }
    }
}

fn agent(cloud: &Cloud, response_type: usize, max_conn: usize) -> TestAgent {
    let key = cloud.access_key();
    Setup::new(BINARY)
        .config(format!(
            "[Server]\nHttpPort = 0\nMaxConn = {max_conn}\nResponseType = {response_type}\n\
             [Log]\nLogPath = \"\"\n\
             [KMS]\nEndpoint = \"{}\"\nMaxAttempts = 1\nRequestTimeoutMs = 500\nMaxRequestsPerSecond = 0\n",
            cloud.base_url()
        ))
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", key.id())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", key.expose_secret())
        .start()
}

/// An answer of the agent on a path of the document.
#[derive(Default)]
struct Exchanges(Vec<Value>);

impl Exchanges {
    fn add(&mut self, path: &str, reply: &Reply) {
        self.0.push(json!({
            "path": path,
            "status": reply.status,
            "headers": reply.headers,
            "body": reply.text(),
        }));
    }

    fn send(&mut self, agent: &TestAgent, path: &str, line: &str, headers: &str) {
        let port = agent.port();
        let request = format!("{line} HTTP/1.1\r\nHost: localhost:{port}\r\n{headers}\r\n");
        self.add(path, &http::send(port, request.as_bytes()).unwrap());
    }

    /// Sends the requests that the guard and the router refuse on every path.
    fn refuse(&mut self, agent: &TestAgent, path: &str, method: &str, target: &str) {
        let token = format!("X-KMS-Token: {TOKEN}\r\n");
        let mut send = |line: &str, headers: &str| self.send(agent, path, line, headers);
        let right = format!("{method} {target}");
        send(&right, &format!("{token}Forwarded: for=10.0.0.1\r\n"));
        send(&right, &format!("{token}Content-Length: 1\r\n"));
        send(&right, &format!("{token}Origin: https://example.com\r\n"));
        for wrong in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"] {
            if wrong != method {
                send(&format!("{wrong} {target}"), &token);
            }
        }
        let mark = if target.contains('?') { '&' } else { '?' };
        send(&format!("{right}{mark}{}", "x".repeat(9000)), &token);
        send(&right, &format!("{token}X-Big: {}\r\n", "x".repeat(66_000)));
    }

    /// Reads every secret, and causes every error.
    fn read(&mut self, agent: &TestAgent) {
        let token = format!("X-Vault-Token: {TOKEN}\r\n");
        for (path, start) in SECRET_PATHS {
            for name in NAMES {
                self.send(agent, path, &format!("GET {start}{name}"), &token);
            }
            let mark = if start.contains('?') { '&' } else { '?' };
            for part in [
                "text{}format=value",
                "binary{}format=value",
                "object{}field=a.1&format=value",
                "object{}field=a",
                "object{}field=c",
            ] {
                let target = part.replace("{}", &mark.to_string());
                self.send(agent, path, &format!("GET {start}{target}"), &token);
            }
            self.send(agent, path, &format!("GET {start}text"), "");
            self.refuse(agent, path, "GET", &format!("{start}text"));
        }
        let older = "Accept: text/plain\r\n";
        self.send(agent, "/metrics", "GET /metrics", older);
        for path in ["/ping", "/livez", "/readyz", "/metrics"] {
            self.send(agent, path, &format!("GET {path}"), "");
            self.refuse(agent, path, "GET", path);
        }
    }

    /// Sends the first requests of Vault clients.
    fn begin_as_vault(&mut self, agent: &TestAgent) {
        let token = format!("X-Vault-Token: {TOKEN}\r\n");
        for (path, target) in VAULT_PATHS {
            self.send(agent, path, &format!("GET {target}"), &token);
            self.send(agent, path, &format!("GET {target}"), "");
            self.refuse(agent, path, "GET", target);
        }
    }

    /// Sends the requests of operators.
    fn operate(&mut self, agent: &TestAgent) {
        let token = format!("X-Vault-Token: {TOKEN}\r\n");
        for (path, method, query) in [
            ("/agent/status", "GET", ""),
            ("/agent/watch", "GET", "?secretId=text"),
            ("/agent/watch", "GET", "?secretId=missing"),
            ("/agent/watch", "GET", "?secretId=cut"),
            ("/agent/watch", "GET", "?secretId=text&wait=0"),
            ("/agent/batch", "GET", "?secretId=text&secretId=binary"),
            ("/agent/batch", "GET", "?secretId=cut&secretId=missing"),
            ("/agent/batch", "GET", ""),
            ("/agent/purge", "POST", "?secretId=text"),
            ("/agent/purge", "POST", "?all=1&force=1"),
            ("/agent/purge", "POST", ""),
        ] {
            let line = format!("{method} {path}{query}");
            self.send(agent, path, &line, &token);
            self.send(agent, path, &line, "");
            self.refuse(agent, path, method, path);
        }
        let known = agent.get("/agent/watch?secretId=text").json();
        let version = known["VersionId"].as_str().expect("a version");
        let line = format!("GET /agent/watch?secretId=text&since={version}&wait=1");
        self.send(agent, "/agent/watch", &line, &token);
    }

    /// Returns the answers that do not conform, and the parts of the document that were not seen.
    fn judge(self, python: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("exchanges.json");
        std::fs::write(&file, Value::from(self.0).to_string()).unwrap();
        let output = Command::new(python)
            .arg(Path::new(SCRIPTS).join("conforms.py"))
            .args([Path::new(DOCUMENT_PATH), &file])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn every_documented_answer_is_given_as_documented() {
    let Some(python) = python() else { return };
    let cloud = Cloud::start();
    fill(&cloud);
    let mut exchanges = Exchanges::default();
    for response_type in 0..3 {
        let idle = agent(&cloud, response_type, 100);
        exchanges.read(&idle);
        exchanges.operate(&idle);

        if response_type == 2 {
            exchanges.begin_as_vault(&idle);
        }

        let busy = agent(&cloud, response_type, 1);
        let mut held = Connection::open(busy.port()).unwrap();
        let request = format!(
            "GET /agent/status HTTP/1.1\r\nHost: localhost:{}\r\nX-KMS-Token: {TOKEN}\r\n\r\n",
            busy.port()
        );
        held.send(request.as_bytes()).unwrap();
        held.reply().unwrap();
        for (path, start) in SECRET_PATHS {
            exchanges.add(path, &busy.get(&format!("{start}text")));
        }
        exchanges.add("/agent/status", &busy.get("/agent/status"));
    }
    let durable = cloud
        .setup()
        .and_config("[Cache]\nCacheType = \"Persistent\"\nPrefetch = [\"object\", \"missing\"]\n")
        .start();
    exchanges.add("/v1/{secretId}", &durable.get("/v1/text"));
    exchanges.operate(&durable);
    let poor = Setup::new(BINARY)
        .and_config("[KMS]\nRegion = \"cn-hangzhou\"\n[Credentials]\nProvider = \"Environment\"\n")
        .start();
    exchanges.send(&poor, "/readyz", "GET /readyz", "");
    assert_eq!(
        exchanges.judge(&python),
        "/agent/purge 503 was not seen\n",
        "that takes a store that fails"
    );
}

#[test]
fn every_route_is_documented() {
    let documented: BTreeSet<&str> = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("  /")?.strip_suffix(':'))
        .collect();
    let table = ROUTES.split_once("const ROUTES").expect("the table").1;
    let routes: Vec<&str> = table
        .split("RoutePath::")
        .skip(1)
        .filter_map(|row| {
            let exact = row.strip_prefix("Exact(\"/");
            let path = exact.and_then(|rest| rest.split('"').next());
            let is_prefix = row.starts_with("BelowPrefix");
            path.or(is_prefix.then_some("v1/{secretId}"))
        })
        .collect();
    assert!(routes.len() >= 8, "{routes:?}");
    for route in routes {
        assert!(documented.contains(route), "{route} is not in openapi.yaml");
    }
}

/// Returns the quoted words between two texts of a source file.
fn quoted<'a>(source: &'a str, from: &str, to: &str) -> BTreeSet<&'a str> {
    let (_, rest) = source.split_once(from).expect("the function is there");
    let (body, _) = rest.split_once(to).expect("the function ends");
    body.split('"').skip(1).step_by(2).collect()
}

#[test]
fn every_code_of_the_agent_is_documented_and_no_other() {
    let end = "\n    }\n";
    let mut codes = quoted(include_str!("../../../src/server/error.rs"), "fn row(", end);
    codes.extend(quoted(
        include_str!("../../../src/core/source.rs"),
        "const fn code(",
        end,
    ));
    let (_, rest) = DOCUMENT.split_once("    AgentCode:").unwrap();
    let (_, rest) = rest.split_once('[').unwrap();
    let (list, _) = rest.split_once(']').unwrap();
    let documented: BTreeSet<&str> = list.split(',').map(str::trim).collect();
    assert_eq!(codes, documented);
    for code in codes {
        assert!(
            PAGE.contains(&format!("`{code}`")),
            "{code} in docs/http.md"
        );
    }
}

#[test]
fn the_document_is_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(DOCUMENT.contains(&format!("\n  version: {version}\n")));
}

/// Runs schemathesis, which sends valid and invalid requests.
fn fuzz(response_type: usize) {
    let Some(python) = python() else { return };
    let cloud = Cloud::start();
    cloud.put("app/db", r#"{"user":"app"}"#);
    cloud.put("secret/data/app/db", "another");
    let agent = agent(&cloud, response_type, 100);
    let folder = tempfile::tempdir().unwrap();
    let mut run = Command::new(Path::new(&python).with_file_name("schemathesis"));
    run.arg("--config-file")
        .arg(Path::new(SCRIPTS).join("schemathesis.toml"))
        .args(["run", DOCUMENT_PATH, "--no-color"])
        .args(["--header", &format!("X-KMS-Token: {TOKEN}")])
        .args(["--url", &format!("http://127.0.0.1:{}", agent.port())]);
    if response_type != 2 {
        // These operations exist only under response type 2.
        for operation in [
            "readSecretAsVault",
            "vaultLookUpToken",
            "vaultMount",
            "vaultHealth",
        ] {
            run.args(["--exclude-operation-id", operation]);
        }
    }
    let output = run
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", folder.path())
        .env("NO_PROXY", "*")
        .env("PYTHONIOENCODING", "utf-8")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{stderr}");
    assert!(cloud.reads() > 10, "KMS was hardly asked:\n{said}");
}

#[test]
fn schemathesis_finds_nothing_in_response_type_0() {
    fuzz(0);
}

#[test]
fn schemathesis_finds_nothing_in_response_type_1() {
    fuzz(1);
}

#[test]
fn schemathesis_finds_nothing_in_response_type_2() {
    fuzz(2);
}
