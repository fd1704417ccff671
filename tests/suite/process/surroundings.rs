//! Surroundings in containers, units and supervisors.

use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kms_agent_test_support::http::{self, Connection};
use kms_agent_test_support::{TOKEN, TestAgent};

use super::{LIMIT, is_root};
use crate::harness::child::KillOnDrop;
use crate::harness::cloud::{BINARY, Cloud};

/// Starter as an unknown user without a home, who may write to the agent's folder only. The binary is copied,
/// because such a user may not reach it.
pub(super) const AS_ANYBODY: &str = "cp \"$1\" binary; shift; chown -R 54321:54321 .; \
     exec setpriv --reuid=54321 --regid=54321 --clear-groups ./binary \"$@\"";

const PERSISTENT: &str = "[Cache]\nCacheType = \"Persistent\"\n";

fn assert_serves(agent: &TestAgent) {
    let reply = agent.read("s");
    assert_eq!(reply.status, 200, "{}\n{}", reply.text(), agent.stderr());
    assert_eq!(reply.json()["SecretData"], "value");
}

fn cloud() -> Cloud {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    cloud
}

#[test]
fn a_user_without_name_or_home_is_enough() {
    if !is_root() {
        return;
    }
    let cloud = cloud();
    let agent = cloud.setup().and_config(PERSISTENT).by(AS_ANYBODY).start();
    assert_serves(&agent);
    assert!(agent.folder().join("cache/kms-agent.redb").is_file());
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!said.contains("ERROR"), "{said}");
}

#[test]
fn a_read_only_root_is_no_reason_not_to_serve() {
    if !is_root() {
        return;
    }
    let cloud = cloud();
    let agent = cloud
        .setup()
        .and_config(PERSISTENT)
        .by("exec unshare --mount bash -euc '\
             mount --make-rprivate /; mount --bind . .; cd \"$PWD\"; mount -o remount,bind,ro .; \
             mount -o remount,bind,ro /; ! touch here /here 2>/dev/null; exec \"$@\"' bash \"$@\"")
        .start();
    assert_serves(&agent);
    let ready = http::get(agent.port(), "/readyz", &[]);
    assert_eq!(
        ready.json()["checks"]["cache"]["state"],
        "degraded",
        "{}",
        ready.text()
    );
    assert_eq!(ready.status, 200);
}

#[test]
fn closed_standard_streams_confuse_nothing() {
    let cloud = cloud();
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("config.toml"),
        format!(
            "[Server]\nHttpPort = 0\n[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\n",
            cloud.base_url()
        ),
    )
    .unwrap();
    let _agent = KillOnDrop(
        Command::new("bash")
            .args([
                "-euc",
                "exec \"$@\" <&- >&- 2>&-",
                "bash",
                BINARY,
                "agent",
                "config.toml",
            ])
            .env_clear()
            .env("KMS_TOKEN", TOKEN)
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", cloud.access_key().id())
            .env(
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
                cloud.access_key().expose_secret(),
            )
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let log = folder.path().join("logs/kms-agent.log");
    let began = Instant::now();
    let port: u16 = loop {
        let text = fs::read_to_string(&log).unwrap_or_default();
        if let Some((_, rest)) = text.split_once("listening on 127.0.0.1:")
            && let Some((port, _)) = rest.split_once('\n')
        {
            break port.trim().parse().unwrap();
        }
        assert!(
            began.elapsed() < LIMIT,
            "the agent does not get ready: {text}"
        );
        std::thread::sleep(Duration::from_millis(20));
    };
    let reply = http::get(port, "/v1/s", &[("X-KMS-Token", TOKEN)]);
    assert_eq!(reply.status, 200, "{}", reply.text());
    // Neither the store nor a connection got the descriptor of a standard stream.
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.lines().all(|line| line.starts_with("20")), "{text}");
    drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
}

/// Usual memory limit of a sidecar, in bytes.
const SIDECAR_KB: u64 = 64 * 1024;

#[test]
fn a_thousand_secrets_and_readers_fit_into_64_mib() {
    let cloud = cloud();
    let value = "v".repeat(4096);
    for number in 0..1000 {
        cloud.put(&format!("s{number}"), &value);
    }
    let agent = cloud
        .setup()
        .and_config("MaxRequestsPerSecond = 0\n")
        .start();
    for number in 0..1000 {
        assert_eq!(agent.read(&format!("s{number}")).status, 200);
    }
    let mut readers: Vec<Connection> = (0..700)
        .map(|_| Connection::open(agent.port()).unwrap())
        .collect();
    let request = format!(
        "GET /v1/s7 HTTP/1.1\r\nHost: localhost:{}\r\nX-KMS-Token: {TOKEN}\r\n\r\n",
        agent.port()
    );
    for reader in &mut readers {
        reader.send(request.as_bytes()).unwrap();
    }
    for reader in &mut readers {
        assert_eq!(reader.reply().unwrap().status, 200);
    }
    let peak = super::status_of(agent.pid(), "VmHWM");
    let kilobytes: u64 = peak.trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < SIDECAR_KB, "{peak}");
}
