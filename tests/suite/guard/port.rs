//! The agent's port, held by the service manager or by a stranger.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use kms_agent_test_support::http::{self, Connection};
use kms_agent_test_support::{Setup, TOKEN};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::harness::cloud::{BINARY, Cloud};

/// Opens both loopback addresses on one port, if the host has both, as a .socket unit does.
fn held_by_the_service_manager() -> Vec<TcpListener> {
    loop {
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = v4.local_addr().unwrap().port();
        match TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
            Ok(v6) => return vec![v4, v6],
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(_) => return vec![v4],
        }
    }
}

/// Passes `sockets` as systemd does: from descriptor 3 on, announced by `LISTEN_FDS` and `LISTEN_PID`.
fn activated_by(setup: Setup, sockets: &[impl AsFd]) -> Setup {
    let mut script = Vec::new();
    for (target, socket) in (3..).zip(sockets) {
        let socket = socket.as_fd();
        fcntl_setfd(socket, FdFlags::empty()).unwrap();
        script.push(format!("exec {}<&{};", target + 90, socket.as_raw_fd()));
    }
    for target in (3..).take(sockets.len()) {
        script.push(format!("exec {target}<&{0} {0}<&-;", target + 90));
    }
    setup.by(&format!(
        "{1} LISTEN_FDS={0} LISTEN_PID=$$ exec \"$@\"",
        sockets.len(),
        script.join(" "),
    ))
}

fn port_of(listeners: &[TcpListener]) -> u16 {
    listeners[0].local_addr().unwrap().port()
}

#[test]
fn inherited_listeners_keep_the_port_through_a_crash() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let held = held_by_the_service_manager();
    let port = port_of(&held);
    let agent = activated_by(cloud.setup(), &held).start();
    assert_eq!(agent.port(), port);
    assert_eq!(agent.read("s").status, 200);
    agent.kill();

    // No process answers, and no other process can take the port. The connection waits in the kernel's queue.
    assert!(TcpListener::bind(("127.0.0.1", port)).is_err());
    let mut waiting = Connection::open(port).unwrap();
    waiting
        .send(format!(
            "GET /secretsmanager/get?secretId=s HTTP/1.1\r\nHost: localhost:{port}\r\nX-KMS-Token: {TOKEN}\r\n\r\n"
        ).as_bytes())
        .unwrap();
    let again = activated_by(cloud.setup(), &held).start();
    assert_eq!(waiting.reply().unwrap().status, 200, "{}", again.stderr());
    let (status, said) = again.stop();
    assert_eq!(status.code(), Some(0), "{said}");
}

#[test]
fn the_address_that_was_not_inherited_is_opened_too() {
    let cloud = Cloud::start();
    let mut held = held_by_the_service_manager();
    if held.len() == 1 {
        eprintln!("skipped: this host has no [::1]");
        return;
    }
    let port = port_of(&held);
    held.truncate(1);
    let agent = activated_by(cloud.setup(), &held).start();
    assert_eq!(agent.port(), port);
    assert!(TcpListener::bind((Ipv6Addr::LOCALHOST, port)).is_err());
}

#[test]
fn a_configured_port_goes_before_the_inherited_one() {
    let cloud = Cloud::start();
    let held = held_by_the_service_manager();
    let free = port_of(&held_by_the_service_manager());
    let setup = cloud.setup_on_port(free);
    let agent = activated_by(setup, &held).start();
    assert_eq!(agent.port(), free);
    assert!(
        agent
            .stderr()
            .contains("The .socket unit holds another port"),
        "{}",
        agent.stderr()
    );
}

#[test]
fn a_socket_that_is_not_a_loopback_listener_fails_the_start() {
    let refuses = |setup: Setup| {
        let (status, said) = setup.run();
        assert_eq!(status.code(), Some(78), "{said}");
        assert!(said.contains("socket"), "{said}");
    };
    let cloud = Cloud::start();
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    refuses(activated_by(cloud.setup(), &[everywhere]));
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    refuses(activated_by(cloud.setup(), &[datagrams]));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    refuses(activated_by(cloud.setup(), &[connected]));
    let twice = [listener.try_clone().unwrap(), listener];
    refuses(activated_by(cloud.setup(), &twice));
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let cloud = Cloud::start();
    let agent = cloud
        .setup()
        .by("LISTEN_FDS=1 LISTEN_PID=1 exec \"$@\"")
        .start();
    assert_eq!(http::get(agent.port(), "/ping", &[]).status, 200);
}

/// A process of the user `nobody` that holds a port and answers every request.
struct Stranger {
    process: Child,
    port: u16,
}

impl Stranger {
    const PROGRAM: &str = r#"
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
held = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(held.getsockname()[1], flush=True)
while True:
    stream, _ = held.accept()
    print(repr(stream.recv(65536)), flush=True)
    stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    stream.close()
"#;

    /// Takes a free port. Prints the reason and returns `None` where a test cannot be another user.
    fn takes_a_port() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can run a process of another user");
            return None;
        }
        let mut process = Command::new("python3")
            .args(["-c", Self::PROGRAM, "0"])
            .current_dir("/")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = process.stdout.as_mut().unwrap();
        BufReader::with_capacity(1, output)
            .read_line(&mut line)
            .unwrap();
        Some(Self {
            process,
            port: line.trim().parse().unwrap(),
        })
    }

    /// Stops it and returns everything that it received.
    fn leaves(mut self) -> String {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let mut collected = String::new();
        let mut output = self.process.stdout.take().unwrap();
        output.read_to_string(&mut collected).unwrap();
        collected
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // Both fail only if it has exited already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_token_that_a_stranger_may_have_collected_is_withdrawn() {
    let Some(stranger) = Stranger::takes_a_port() else {
        return;
    };
    let port = stranger.port;
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kmstoken");
    fs::write(&path, TOKEN).unwrap();
    let setup = cloud
        .setup_on_port(port)
        .env("KMS_TOKEN", format!("file://{}", path.display()));
    let (status, said) = setup.clone().run();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("uid 65534"), "{said}");
    assert!(said.contains("tokens may have been collected"), "{said}");
    assert!(!path.exists());

    stranger.leaves();
    let agent = setup.start();
    assert_eq!(agent.read("s").status, 403, "the collected token ended");
    let token = fs::read_to_string(&path).unwrap();
    let target = "/secretsmanager/get?secretId=s";
    let reply = http::get(port, target, &[("X-KMS-Token", token.as_str())]);
    assert_eq!(reply.status, 200);
}

#[test]
fn a_token_that_the_agent_may_not_touch_is_marked_for_the_unit() {
    let Some(stranger) = Stranger::takes_a_port() else {
        return;
    };
    let cloud = Cloud::start();
    // As under the unit, the folder belongs to root and the agent is another user.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kmstoken");
    fs::write(&path, TOKEN).unwrap();
    let shown = folder.path().display();
    let (status, said) = cloud
        .setup_on_port(stranger.port)
        .env("KMS_TOKEN", format!("file://{}", path.display()))
        .by(&format!(
            "chmod 0755 {shown}; chmod 0644 {shown}/kmstoken; mkdir {shown}/state; chown 54321 {shown}/state; \
             export STATE_DIRECTORY={shown}/state; \
             cp \"$1\" binary; shift; chown -R 54321:54321 .; \
             exec setpriv --reuid=54321 --regid=54321 --clear-groups ./binary \"$@\""
        ))
        .run();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("is replaced before the next start"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), TOKEN);
    assert!(folder.path().join("state/token-exposed").is_file());
}

#[test]
fn a_stranger_beside_an_inherited_listener_has_the_token_withdrawn() {
    let Some(stranger) = Stranger::takes_a_port() else {
        return;
    };
    let Ok(held) = TcpListener::bind((Ipv6Addr::LOCALHOST, stranger.port)) else {
        eprintln!("skipped: [::1] is not free on the port");
        return;
    };
    let cloud = Cloud::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kmstoken");
    fs::write(&path, TOKEN).unwrap();
    let setup = cloud
        .setup_on_port(stranger.port)
        .env("KMS_TOKEN", format!("file://{}", path.display()));
    let (status, said) = activated_by(setup, &[held]).run();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("tokens may have been collected"), "{said}");
    assert!(!path.exists());
}

#[test]
fn more_inherited_sockets_than_any_unit_has_are_refused() {
    let cloud = Cloud::start();
    let (status, said) = cloud
        .setup()
        .by("LISTEN_FDS=1000000000 LISTEN_PID=$$ exec \"$@\"")
        .run();
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains("LISTEN_FDS promises more than 16"), "{said}");
}

fn client(arguments: &[&str], port: u16, environment: &[(&str, &str)], folder: &Path) -> Output {
    let (command, rest) = arguments.split_at(1);
    Command::new(BINARY)
        .args(command)
        .args(["--port", &port.to_string()])
        .args(rest)
        .env_clear()
        .env("KMS_TOKEN", TOKEN)
        .env("PATH", "/usr/bin:/bin")
        .envs(environment.iter().copied())
        .current_dir(folder)
        .output()
        .unwrap()
}

#[test]
fn client_commands_send_the_token_to_no_stranger() {
    let Some(stranger) = Stranger::takes_a_port() else {
        return;
    };
    let port = stranger.port;
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["get", "s"][..],
        &["status"],
        &["purge", "s"],
        &["exec", "-e", "X=s", "--", "true"],
    ] {
        let output = client(arguments, port, &[], folder.path());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("uid 65534"), "{said}");
        assert!(said.contains("--agent-user"), "{said}");
    }
    assert_eq!(stranger.leaves(), "");
}

#[test]
fn health_refuses_a_strangers_process_unless_its_user_is_named_or_owns_the_token_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kmstoken");
    fs::write(&path, TOKEN).unwrap();
    std::os::unix::fs::chown(&path, Some(65534), None).ok();
    let url = format!("file://{}", path.display());
    for (arguments, environment, is_asked) in [
        (&["health"][..], &[][..], false),
        (&["health", "--live"], &[], false),
        (&["health"], &[("KMS_TOKEN", "")], false),
        (&["health", "--agent-user", "65534"], &[], true),
        (&["health"], &[("KMS_AGENT_USER", "nobody")], true),
        (&["health", "--live"], &[("KMS_TOKEN", url.as_str())], true),
    ] {
        let Some(stranger) = Stranger::takes_a_port() else {
            return;
        };
        let output = client(arguments, stranger.port, environment, folder.path());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), is_asked, "{arguments:?}: {said}");
        assert_eq!(
            said.contains("is held by a process of"),
            !is_asked,
            "{said}"
        );
        assert_eq!(
            stranger.leaves().contains("GET /"),
            is_asked,
            "{arguments:?}"
        );
    }
}

#[test]
fn a_user_who_is_named_or_owns_the_token_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kmstoken");
    fs::write(&path, TOKEN).unwrap();
    std::os::unix::fs::chown(&path, Some(65534), None).ok();
    let url = format!("file://{}", path.display());
    for (arguments, environment) in [
        (&["status", "--agent-user", "65534"][..], &[][..]),
        (&["status"], &[("KMS_AGENT_USER", "nobody")]),
        (&["status"], &[("KMS_TOKEN", url.as_str())]),
    ] {
        let Some(stranger) = Stranger::takes_a_port() else {
            return;
        };
        client(arguments, stranger.port, environment, folder.path());
        let collected = stranger.leaves();
        assert!(collected.contains(TOKEN), "{arguments:?}: {collected}");
    }
}

#[test]
fn check_says_whose_process_holds_the_port() {
    let Some(stranger) = Stranger::takes_a_port() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let check = |port: u16| {
        fs::write(
            &config,
            format!("[Server]\nHttpPort = {port}\n[Log]\nLogPath = \"\"\n"),
        )
        .unwrap();
        let output = Command::new(BINARY)
            .arg("check")
            .arg(&config)
            .env_clear()
            .env("KMS_TOKEN", TOKEN)
            .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .find(|line| line.contains("port"))
            .unwrap()
            .to_owned()
    };
    let line = check(stranger.port);
    assert!(
        line.contains("uid 65534") && line.contains("collect tokens"),
        "{line}"
    );

    let cloud = Cloud::start();
    let agent = cloud.setup().start();
    let line = check(agent.port());
    assert!(
        line.contains("an agent runs on") && line.contains("uid 0"),
        "{line}"
    );
}
