//! SDKs and clients of other projects.

use std::path::Path;
use std::process::Command;

use kms_agent_test_support::{Setup, TOKEN};
use serde_json::{Value, json};

use crate::harness::cloud::{BINARY, Cloud};
use crate::harness::python::{SCRIPTS, python};

/// Returns the output of one of our scripts, run with these variables and no others.
fn run(python: &str, script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = Command::new(python)
        .arg(Path::new(SCRIPTS).join(script))
        .args(arguments)
        .env_clear()
        .env("PYTHONIOENCODING", "utf-8")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_official_python_sdk_reads_a_secret_from_the_emulator() {
    let Some(python) = python() else { return };
    let cloud = Cloud::start();
    let (name, value) = ("app/db +~*=@密码", "välue with \"quotes\"");
    cloud.put(name, value);
    let key = cloud.access_key();
    let printed = run(
        &python,
        "read_secret.py",
        &[cloud.endpoint(), name],
        &[
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", key.id()),
            ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", key.expose_secret()),
        ],
    );
    assert_eq!(printed, value);
}

/// Starts an agent with these lines in its table `Server`.
fn agent(cloud: &Cloud, server: &str) -> kms_agent_test_support::TestAgent {
    let key = cloud.access_key();
    Setup::new(BINARY)
        .config(format!(
            "[Server]\nHttpPort = 0\n{server}\n[Log]\nLogPath = \"\"\n"
        ))
        .kms(cloud.base_url(), key.id(), key.expose_secret())
        .start()
}

#[test]
fn hvac_reads_secrets_as_it_reads_them_from_vault() {
    let Some(python) = python() else { return };
    let cloud = Cloud::start();
    let version = cloud.put("app/db", r#"{"user":"app","password":"pä\"ss"}"#);
    cloud.put("app/text +密", "just text");
    cloud.put("denied", "value");
    cloud.deny_secret("denied");
    let agent = agent(&cloud, "ResponseType = 2");
    let url = format!("http://127.0.0.1:{}", agent.port());
    let read = |token: &str, arguments: &[&str]| -> Value {
        let arguments = [&[url.as_str()], arguments].concat();
        let variables = [("VAULT_TOKEN", token)];
        serde_json::from_str(&run(&python, "read_as_vault.py", &arguments, &variables)).unwrap()
    };

    let data = read(TOKEN, &["app/db"]);
    assert_eq!(data["data"], json!({"user": "app", "password": "pä\"ss"}));
    assert_eq!(data["metadata"]["version"], 1);
    assert_eq!(data["metadata"]["custom_metadata"]["version_id"], version);
    assert_eq!(read(TOKEN, &["app/db", "1"]), data);
    assert_eq!(
        read(TOKEN, &["app/text +密"])["data"],
        json!({"value": "just text"})
    );

    for (token, arguments, exception, code) in [
        (
            TOKEN,
            &["missing"][..],
            "InvalidPath",
            "Forbidden.ResourceNotFound: ",
        ),
        (TOKEN, &["denied"], "Forbidden", "Forbidden.NoPermission: "),
        ("wrong", &["app/db"], "Forbidden", "InvalidToken: "),
        (
            TOKEN,
            &["app/db", "2"],
            "InvalidRequest",
            "InvalidParameter: ",
        ),
    ] {
        let failure = read(token, arguments);
        assert_eq!(failure["exception"], exception, "{failure}");
        assert!(
            failure["errors"][0].as_str().unwrap().starts_with(code),
            "{failure}"
        );
    }
}

#[test]
fn vault_clients_that_look_at_their_token_and_mount_first_read_on() {
    let Some(python) = python() else { return };
    let cloud = Cloud::start();
    // Default path of dynaconf.
    cloud.put("dynaconf/main", r#"{"password":"pw"}"#);
    let agent = agent(&cloud, "ResponseType = 2");
    let url = format!("http://127.0.0.1:{}", agent.port());
    let begin = |client: &str, token: &str| -> Value {
        let arguments = [client, &url, "dynaconf/main"];
        let variables = [("VAULT_TOKEN", token), ("HOME", "/nonexistent")];
        let printed = run(&python, "begin_as_vault.py", &arguments, &variables);
        serde_json::from_str(&printed).unwrap()
    };
    let value = json!({"password": "pw"});

    let answers = begin("hvac", TOKEN);
    assert_eq!(answers["authenticated"], true, "{answers}");
    assert_eq!(answers["initialized"], true, "{answers}");
    assert_eq!(answers["sealed"], false, "{answers}");
    assert_eq!(answers["healthy"], true, "{answers}");
    assert_eq!(answers["renewable"], false, "{answers}");
    assert_eq!(answers["mount"]["path"], "secret/", "{answers}");
    assert_eq!(answers["mount"]["options"]["version"], "2", "{answers}");
    assert_eq!(answers["value"], value, "{answers}");
    assert_eq!(cloud.reads(), 1, "nothing but the secret is asked of KMS");

    for client in ["dynaconf", "ansible"] {
        assert_eq!(begin(client, TOKEN)["value"], value, "{client}");
    }

    assert_eq!(begin("hvac", "wrong"), json!({"authenticated": false}));
    for client in ["dynaconf", "ansible"] {
        let refused = begin(client, "wrong");
        assert!(refused["exception"].is_string(), "{client}: {refused}");
    }
}

#[test]
fn a_client_of_the_aws_secrets_manager_agent_reads_secrets_with_its_own_header() {
    let Some(python) = python() else { return };
    let cloud = Cloud::start();
    cloud.put("app/db", r#"{"password":"pä\"ss"}"#);
    let agent = agent(
        &cloud,
        "ResponseType = 1\nSSRFHeaders = [\"X-Aws-Parameters-Secrets-Token\"]",
    );
    let url = format!("http://localhost:{}", agent.port());
    let folder = tempfile::tempdir().unwrap();
    let [right, wrong] = [("right", TOKEN), ("wrong", "0123456789abcdef")].map(|(name, token)| {
        let path = folder.path().join(name);
        std::fs::write(&path, token).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let read = |token: &str, name: &str| run(&python, "read_as_aws.py", &[&url, token, name], &[]);
    assert_eq!(read(&right, "app/db"), r#"{"password":"pä\"ss"}"#);
    assert_eq!(read(&right, "missing"), "Forbidden.ResourceNotFound");
    assert_eq!(read(&wrong, "app/db"), "InvalidToken");
    assert_eq!(
        agent.read("app/db").status,
        403,
        "the default headers carry the token no more"
    );
}
