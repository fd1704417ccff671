//! Waiting for a change of a secret.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use kms_agent_emulator::Fault;
use kms_agent_test_support::http::{self, Connection, Reply};
use kms_agent_test_support::{Setup, TOKEN, TestAgent};
use rustix::process::Signal;

use crate::harness::cloud::Cloud;

const LIMIT: Duration = Duration::from_secs(30);

fn setup(cloud: &Cloud) -> Setup {
    cloud
        .setup()
        .and_config("[Cache]\nWatchSeconds = 5\nNegativeTtlSeconds = 0\n")
}

/// Sends the request for a watch; its answer is still to come.
fn begin(agent: &TestAgent, query: &str) -> Connection {
    begin_with(agent, query, TOKEN)
}

fn begin_with(agent: &TestAgent, query: &str, token: &str) -> Connection {
    let mut connection = Connection::open(agent.port()).unwrap();
    let request = format!(
        "GET /agent/watch?{query} HTTP/1.1\r\nHost: localhost:{}\r\nX-KMS-Token: {token}\r\n\r\n",
        agent.port()
    );
    connection.send(request.as_bytes()).unwrap();
    connection
}

fn watch(agent: &TestAgent, query: &str) -> Reply {
    begin(agent, query).reply().unwrap()
}

/// Waits until so many requests wait.
fn wait_for_watchers(agent: &TestAgent, count: usize) {
    let line = format!("kms_agent_watchers {count}");
    let began = Instant::now();
    while !agent.get("/metrics").text().lines().any(|it| it == line) {
        assert!(began.elapsed() < LIMIT, "there are never {count} watchers");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the version that the agent holds.
fn version(agent: &TestAgent, name: &str) -> String {
    let reply = watch(agent, &format!("secretId={name}"));
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["VersionId"].as_str().unwrap().to_owned()
}

#[test]
fn a_version_is_told_at_once_and_a_new_one_when_the_agent_sees_it() {
    let cloud = Cloud::start();
    cloud.put("app/db", "one");
    cloud.put("other", "one");
    let agent = setup(&cloud).start();
    let first = watch(&agent, "secretId=app%2Fdb");
    assert_eq!(first.status, 200);
    assert_eq!(first.header("content-type"), Some("application/json"));
    let old = version(&agent, "app/db");
    assert_eq!(
        first.text(),
        format!(r#"{{"SecretId":"app/db","VersionId":"{old}","Changed":true}}"#)
    );
    let other = version(&agent, "other");

    let query = format!("secretId=other&since={other}&secretId=app/db&since={old}&wait=60");
    let waiting = begin(&agent, &query);
    wait_for_watchers(&agent, 1);
    let new = cloud.put("app/db", "two");
    assert_ne!(new, old);
    let mut waiting = waiting;
    let reply = waiting.reply().unwrap();
    assert_eq!(
        reply.text(),
        format!(r#"{{"SecretId":"app/db","VersionId":"{new}","Changed":true}}"#)
    );
    assert_eq!(reply.header("connection"), Some("close"));
    assert_eq!(waiting.end(), b"");
    wait_for_watchers(&agent, 0);
    assert_eq!(agent.read("app/db").json()["SecretData"], "two");
}

#[test]
fn what_a_reader_fetches_ends_the_wait_of_all_and_they_cost_no_call() {
    let cloud = Cloud::start();
    cloud.put("s", "one");
    let agent = cloud
        .setup()
        .and_config("[Cache]\nWatchSeconds = 3600\n")
        .env("KMS_AGENT_SERVER_MAX_CONN", "5")
        .start();
    let old = version(&agent, "s");
    let waiting: Vec<_> = (0..200)
        .map(|_| begin(&agent, &format!("secretId=s&since={old}&wait=60")))
        .collect();
    wait_for_watchers(&agent, 200);
    let reads = cloud.reads();
    let new = cloud.put("s", "two");
    assert_eq!(agent.read("s&refreshNow=true").status, 200);
    for mut connection in waiting {
        let reply = connection.reply().unwrap();
        assert_eq!(reply.json()["VersionId"], *new);
    }
    assert_eq!(cloud.reads(), reads + 1);
}

#[test]
fn a_wait_without_a_change_ends_with_204() {
    let cloud = Cloud::start();
    cloud.put("s", "one");
    let agent = setup(&cloud).start();
    let old = version(&agent, "s");
    let began = Instant::now();
    let mut connection = begin(&agent, &format!("secretId=s&since={old}&wait=1"));
    let reply = connection.reply().unwrap();
    assert_eq!((reply.status, reply.text()), (204, ""));
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(reply.header("content-length"), None);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(connection.end(), b"");
}

#[test]
fn the_end_of_input_and_the_end_of_the_agent_end_a_wait() {
    let cloud = Cloud::start();
    cloud.put("s", "one");
    let agent = setup(&cloud).start();
    let query = format!("secretId=s&since={}&wait=60", version(&agent, "s"));
    let mut half_closed = begin(&agent, &query);
    wait_for_watchers(&agent, 1);
    half_closed.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(half_closed.reply().unwrap().status, 204);
    wait_for_watchers(&agent, 0);
    drop(begin(&agent, &query));
    wait_for_watchers(&agent, 0);

    let mut waiting = begin(&agent, &query);
    wait_for_watchers(&agent, 1);
    let began = Instant::now();
    agent.signal(Signal::TERM);
    assert_eq!(waiting.reply().unwrap().status, 204);
    assert_eq!(waiting.end(), b"");
    let (status, _) = agent.stop();
    assert!(status.success());
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "it was waited for"
    );
}

#[test]
fn a_refusal_by_kms_ends_a_wait_with_its_code() {
    let cloud = Cloud::start();
    cloud.put("s", "one");
    let agent = setup(&cloud).start();
    let query = format!("secretId=s&since={}&wait=60", version(&agent, "s"));

    let mut refused = begin(&agent, &query);
    wait_for_watchers(&agent, 1);
    let fault = Fault::status(403, "Forbidden.NoPermission").on_secret("s");
    cloud.fault(fault).unwrap();
    let reply = refused.reply().unwrap();
    assert_eq!(reply.status, 403);
    assert_eq!(reply.json()["Code"], "Forbidden.NoPermission");
    let gone = watch(&agent, "secretId=missing&since=v1&wait=60");
    assert_eq!(gone.status, 404);
    assert_eq!(gone.json()["Code"], "Forbidden.ResourceNotFound");
}

#[test]
fn a_lost_token_ends_a_wait() {
    let cloud = Cloud::start();
    cloud.put("s", "one");
    let agent = setup(&cloud).env("KMS_TOKEN", "file://kmstoken").start();
    let file = agent.folder().join("kmstoken");
    let token = std::fs::read_to_string(&file).unwrap();
    let reply = begin_with(&agent, "secretId=s", &token).reply().unwrap();
    let version = reply.json()["VersionId"].as_str().unwrap().to_owned();
    let query = format!("secretId=s&since={version}&wait=60");
    let mut waiting = begin_with(&agent, &query, &token);
    wait_for_watchers(&agent, 1);
    let beside = file.with_extension("new");
    std::fs::write(&beside, "fedcba9876543210fedcba9876543210").unwrap();
    std::fs::rename(&beside, &file).unwrap();
    let reply = waiting.reply().unwrap();
    assert_eq!(reply.status, 403);
    assert_eq!(reply.json()["Code"], "InvalidToken");
    assert_eq!(waiting.end(), b"");
}

#[test]
fn a_purge_makes_the_agent_look_and_the_wait_goes_on() {
    let cloud = Cloud::start();
    cloud.put("s", "one");
    let agent = cloud
        .setup()
        .and_config("[Cache]\nWatchSeconds = 3600\n")
        .start();
    let old = version(&agent, "s");
    let mut waiting = begin(&agent, &format!("secretId=s&since={old}&wait=60"));
    wait_for_watchers(&agent, 1);
    let purge = || {
        let request = format!(
            "POST /agent/purge?secretId=s HTTP/1.1\r\nHost: localhost:{}\r\nX-KMS-Token: {TOKEN}\r\n\r\n",
            agent.port()
        );
        let reply = http::send(agent.port(), request.as_bytes()).unwrap();
        assert_eq!(reply.status, 200);
    };
    let reads = cloud.reads();
    purge();
    let began = Instant::now();
    while cloud.reads() == reads {
        assert!(began.elapsed() < LIMIT, "the agent does not look");
        std::thread::sleep(Duration::from_millis(20));
    }
    wait_for_watchers(&agent, 1);
    let new = cloud.put("s", "two");
    purge();
    assert_eq!(waiting.reply().unwrap().json()["VersionId"], *new);
}

#[test]
fn requests_that_wait_are_limited_and_hold_no_connection() {
    let cloud = Cloud::start();
    cloud.put("s", "one");
    let agent = cloud
        .setup()
        .env("KMS_AGENT_SERVER_MAX_CONN", "2")
        .env("KMS_AGENT_SERVER_MAX_WATCHERS", "3")
        .start();
    let query = format!("secretId=s&since={}&wait=60", version(&agent, "s"));
    let waiting: Vec<_> = (0..3).map(|_| begin(&agent, &query)).collect();
    wait_for_watchers(&agent, 3);
    let reply = watch(&agent, &query);
    assert_eq!(reply.status, 429);
    assert_eq!(reply.json()["Code"], "TooManyWatchers");
    assert!(reply.header("retry-after").is_some());
    for _ in 0..5 {
        assert_eq!(agent.read("s").status, 200);
    }
    drop(waiting);
    wait_for_watchers(&agent, 0);
}

#[test]
fn a_request_that_waits_takes_at_most_4_kib_and_no_thread() {
    const COUNT: usize = 900;
    let cloud = Cloud::start();
    cloud.put("s", "one");
    let agent = setup(&cloud).start();
    let query = format!("secretId=s&since={}&wait=60", version(&agent, "s"));
    let status = || std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let field = |name: &str| -> usize {
        let status = status();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        number.unwrap().parse().unwrap()
    };
    // Buffers that the first connections need are there afterwards.
    let first: Vec<_> = (0..50).map(|_| begin(&agent, &query)).collect();
    wait_for_watchers(&agent, first.len());
    let (memory, threads) = (field("VmRSS:"), field("Threads:"));
    let more: Vec<_> = (0..COUNT).map(|_| begin(&agent, &query)).collect();
    wait_for_watchers(&agent, first.len() + COUNT);
    let grown = field("VmRSS:").saturating_sub(memory);
    assert!(grown <= 4 * COUNT, "{grown} KiB for {COUNT} requests");
    assert!(field("Threads:") <= threads, "a thread was started");
    drop(more);
}
