//! The Unix socket, and callers known by their credentials.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use kms_agent_test_support::{Setup, TOKEN, TestAgent, http};

use crate::harness::cloud::{BINARY, Cloud};

fn with_socket(setup: Setup, more: &str) -> Setup {
    setup.edit_config(|text| {
        text.replace(
            "[Server]",
            &format!("[Server]\nSocketPath = \"agent.sock\"\n{more}"),
        )
    })
}

fn socket(agent: &TestAgent) -> std::path::PathBuf {
    agent.folder().join("agent.sock")
}

/// Returns status and body of a GET through the socket.
fn get(path: &Path, target: &str, token: Option<&str>) -> (u16, String) {
    let mut stream = UnixStream::connect(path).unwrap();
    let token = token.map_or_else(String::new, |token| format!("X-KMS-Token: {token}\r\n"));
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: whatever\r\n{token}Connection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

#[test]
fn the_socket_answers_as_the_port_does_and_needs_the_token_without_clients() {
    let cloud = Cloud::start();
    cloud.put("app/db", "value");
    let agent = with_socket(cloud.setup(), "").start();
    let path = socket(&agent);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o660
    );
    assert_eq!(get(&path, "/readyz", None).0, 200);
    assert_eq!(get(&path, "/v1/app/db", None).0, 403);
    let (status, body) = get(&path, "/v1/app/db", Some(TOKEN));
    assert!(status == 200 && body.contains("\"value\""), "{body}");
    assert_eq!(agent.read("app/db").status, 200, "TCP works beside it");
    let folder = agent.folder().to_owned();
    agent.signal(rustix::process::Signal::TERM);
    while folder.join("agent.sock").exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_client_is_known_by_its_user_without_a_token_and_only_through_the_socket() {
    let cloud = Cloud::start();
    cloud.put("app/db", "value");
    cloud.put("web/db", "value");
    let own = fs::metadata("/proc/self").unwrap();
    let (uid, gid) = (own.uid(), own.gid());
    for credentials in [
        format!("User = {uid}"),
        format!("Group = \"{gid}\""),
        format!("User = \"{uid}\"\nGroup = {gid}"),
    ] {
        let clients = format!("[[Client]]\nName = \"me\"\n{credentials}\nSecrets = [\"app/*\"]\n");
        let agent = with_socket(cloud.setup(), "").and_config(&clients).start();
        let path = socket(&agent);
        assert_eq!(get(&path, "/v1/app/db", None).0, 200, "{credentials}");
        let (status, body) = get(&path, "/v1/web/db", None);
        assert!(status == 403 && body.contains("AccessDenied"), "{body}");
        assert_eq!(
            get(&path, "/v1/web/db", Some(TOKEN)).0,
            200,
            "rights add up"
        );
        let over_tcp = http::get(agent.port(), "/v1/app/db", &[]);
        assert_eq!(over_tcp.json()["Code"], "InvalidToken");
        let output = Command::new(BINARY)
            .args(["get", "app/db", "--socket"])
            .arg(&path)
            .env_clear()
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"value", "{output:?}");
        let output = Command::new(BINARY)
            .arg("health")
            .env_clear()
            .env("KMS_AGENT_SOCKET", &path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let clients = format!(
        "[[Client]]\nName = \"other\"\nUser = {}\nSecrets = [\"*\"]\n",
        uid + 1
    );
    let agent = with_socket(cloud.setup(), "").and_config(&clients).start();
    let (status, body) = get(&socket(&agent), "/v1/app/db", None);
    assert!(status == 403 && body.contains("InvalidToken"), "{body}");
}

#[test]
fn a_stale_socket_is_replaced_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let config = format!(
        "[Server]\nHttpPort = 0\nSocketPath = \"{}\"\nSocketMode = \"0600\"\n[Log]\nLogPath = \"\"\n",
        path.display()
    );
    let setup = || Setup::new(BINARY).config(&config);
    drop(UnixListener::bind(&path).unwrap());
    let agent = setup().start();
    assert_eq!(get(&path, "/livez", None).0, 200);

    let (status, log) = setup().run();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("is in use by another process"), "{log}");
    assert_eq!(get(&path, "/livez", None).0, 200, "the first one serves");

    // Another program takes the name; it is not removed at the stop.
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    agent.stop();
    assert!(path.exists());

    let (status, log) = setup().run();
    assert_eq!(status.code(), Some(1), "{log}");
    drop(other);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "a file").unwrap();
    let (status, log) = setup().run();
    assert_eq!(status.code(), Some(78));
    assert!(log.contains("is not a socket of this user"), "{log}");
    assert_eq!(fs::read(&path).unwrap(), b"a file");
}

#[test]
fn a_path_that_every_program_could_take_is_refused() {
    let too_long = "x".repeat(104);
    for (line, said) in [
        (
            "SocketPath = \"@agent\"",
            "an abstract socket has no permissions",
        ),
        (
            &*format!("SocketPath = \"{too_long}\""),
            "at most 103 bytes",
        ),
        ("SocketPath = \"a\"\nSocketMode = \"0888\"", "an octal mode"),
    ] {
        let (status, log) = Setup::new(BINARY)
            .config(format!(
                "[Server]\nHttpPort = 0\n{line}\n[Log]\nLogPath = \"\"\n"
            ))
            .run();
        assert_eq!(status.code(), Some(78), "{log}");
        assert!(log.contains(said), "{log}");
    }
}
