//! Name look-ups, which block nothing else.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kms_agent_test_support::http::Connection;
use kms_agent_test_support::{Setup, TOKEN, TestAgent};

use crate::harness::cloud::{BINARY, Cloud};
use crate::harness::namespace::is_inside_network;

/// Replaces the file at `path` with `text`, in this mount namespace only.
fn replace(folder: &Path, path: &str, text: &str) {
    let path = fs::canonicalize(path).unwrap();
    let other = folder.join(path.file_name().unwrap());
    fs::write(&other, text).unwrap();
    let status = Command::new("mount")
        .arg("--bind")
        .arg(other)
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}

/// Returns the number of threads of `agent`, and how many of them look up names.
fn threads(agent: &TestAgent) -> (usize, usize) {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
    let names: Vec<String> = tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .collect();
    let looking = names.iter().filter(|name| name.trim() == "kms-names");
    (names.len(), looking.count())
}

fn until(agent: &TestAgent, what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{what}: {:?}\n{}",
            threads(agent),
            agent.stderr()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_dns_that_swallows_packets_takes_one_thread_and_holds_nothing_up() {
    if !is_inside_network(
        module_path!(),
        "a_dns_that_swallows_packets_takes_one_thread_and_holds_nothing_up",
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dns = UdpSocket::bind("127.0.0.1:53").unwrap();
    replace(folder.path(), "/etc/resolv.conf", "nameserver 127.0.0.1\n");
    replace(folder.path(), "/etc/hosts", "127.0.0.1 localhost\n");
    let token = folder.path().join("token");
    fs::write(&token, TOKEN).unwrap();
    let agent = Setup::new(BINARY)
        .and_config(
            "[KMS]\nRegion = \"cn-hangzhou\"\nConnectTimeoutMs = 60000\nRequestTimeoutMs = 60000\n",
        )
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI")
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret")
        .env("KMS_TOKEN", format!("file://{}", token.display()))
        .start();
    let (before, _) = threads(&agent);
    let readers: Vec<_> = (0..200)
        .map(|number| {
            let mut connection = Connection::open(agent.port()).unwrap();
            let request = format!(
                "GET /v1/secret-{number} HTTP/1.1\r\nHost: localhost:{}\r\nX-KMS-Token: {TOKEN}\r\n\r\n",
                agent.port()
            );
            connection.send(request.as_bytes()).unwrap();
            connection
        })
        .collect();
    // The first query has arrived.
    dns.recv(&mut [0; 512]).unwrap();

    // Meanwhile another token is written, and accepted.
    let other = TOKEN.replace('0', "f");
    fs::write(&token, &other).unwrap();
    until(&agent, "the new token does not count", || {
        let mut connection = Connection::open(agent.port()).unwrap();
        let request = format!(
            "GET /agent/status HTTP/1.1\r\nHost: localhost:{}\r\nX-KMS-Token: {other}\r\n\r\n",
            agent.port()
        );
        connection.send(request.as_bytes()).unwrap();
        connection.reply().unwrap().status == 200
    });
    let (now, looking) = threads(&agent);
    assert!(looking <= 1, "{looking}");
    // Threads that read files come and go.
    assert!(now <= before + 6, "{before} threads, then {now}");
    drop(readers);
}

#[test]
fn localhost_is_this_machine_whatever_the_hosts_file_says() {
    if !is_inside_network(
        module_path!(),
        "localhost_is_this_machine_whatever_the_hosts_file_says",
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    replace(
        folder.path(),
        "/etc/hosts",
        "127.0.0.9 localhost\n192.0.2.1 localhost\n",
    );
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let endpoint = format!("http://localhost:{}", cloud.address().port());
    let agent = cloud.setup_at(&endpoint).start();
    let reply = agent.read("s");
    assert_eq!(reply.status, 200, "{}", agent.stderr());
}
