//! No copy of a value stays in the process after it has left the cache. Root reads the memory of the real binary,
//! with a TLS upstream, after each kind of removal.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use kms_agent_emulator::Options;
use kms_agent_test_support::{TOKEN, TestAgent, http};

use crate::harness::cloud::Cloud;

/// Returns whether this test may read the memory of a process; CI must.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none(), "CI runs as root");
        eprintln!("skipped: only root may read another process's memory");
    }
    root
}

/// Returns random letters and digits.
pub(crate) fn canary(length: usize) -> String {
    let mut bytes = vec![0; length];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut bytes)
        .unwrap();
    bytes
        .iter()
        .map(|byte| char::from(b"abcdefghijklmnopqrstuvwxyzABCDEF"[usize::from(byte % 32)]))
        .collect()
}

/// Returns the number of places in the memory of process `pid` with a piece of `canary`.
pub(crate) fn copies(pid: u32, canary: &str) -> usize {
    // The pieces come from the whole canary, because a copy may have been overwritten in part.
    let step = (canary.len() / 8).max(1);
    let pieces: Vec<&[u8]> = (0..canary.len().saturating_sub(20))
        .step_by(step)
        .map(|at| &canary.as_bytes()[at..at + 20])
        .collect();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = 0;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let (start, end) = (
            u64::from_str_radix(start, 16).unwrap(),
            u64::from_str_radix(end, 16).unwrap(),
        );
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        // A mapping may be gone by now, or not be readable.
        if memory.seek(SeekFrom::Start(start)).is_err() || memory.read_exact(&mut bytes).is_err() {
            continue;
        }
        found += pieces
            .iter()
            .map(|piece| memmem(&bytes, piece))
            .sum::<usize>();
    }
    found
}

fn memmem(haystack: &[u8], needle: &[u8]) -> usize {
    let mut count = 0;
    let mut rest = haystack;
    while let Some(at) = rest.iter().position(|byte| *byte == needle[0]) {
        rest = &rest[at..];
        if rest.starts_with(needle) {
            count += 1;
        }
        rest = &rest[1..];
    }
    count
}

fn wait_until_wiped(agent: &TestAgent, canary: &str, what: &str) {
    let began = Instant::now();
    loop {
        let left = copies(agent.pid(), canary);
        if left == 0 {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{left} pieces are left after: {what}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

struct House {
    cloud: Cloud,
    agent: TestAgent,
}

/// Starts an agent that calls KMS over TLS.
fn house(response_type: u8, cache: &str) -> House {
    let cloud = Cloud::with(Options {
        tls: true,
        ..Options::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, cloud.ca_pem().unwrap()).unwrap();
    let agent = cloud
        .setup()
        .config(format!(
            "[Server]\nHttpPort = 0\nResponseType = {response_type}\n\
             [KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\nCaFile = \"{}\"\n\
             [Log]\nLogLevel = \"Debug\"\nLogPath = \"\"\n[Cache]\nRefreshAhead = false\n{cache}",
            cloud.base_url(),
            ca.display()
        ))
        .start();
    // The agent reads the CA file before the folder is deleted.
    cloud.put("warm-up", "x");
    assert_eq!(agent.read("warm-up").status, 200, "{}", agent.stderr());
    House { cloud, agent }
}

impl House {
    /// Stores a secret with `canary` in it, wrapped by `wrap`, reads it and finds it in the memory.
    fn read(&self, name: &str, value: &str, canary: &str) {
        self.cloud.put(name, value);
        let reply = self.agent.read(name);
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(
            reply.text().contains(canary.get(..20).unwrap()),
            "the reader got it"
        );
        assert!(
            copies(self.agent.pid(), canary) > 0,
            "the scan sees what is cached"
        );
    }

    fn purge(&self, name: &str) {
        let port = self.agent.port();
        let request = format!(
            "POST /agent/purge?secretId={name} HTTP/1.1\r\nHost: localhost:{port}\r\nX-KMS-Token: {TOKEN}\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(http::send(port, request.as_bytes()).unwrap().status, 200);
    }
}

#[test]
fn a_purged_value_leaves_no_copy_whatever_its_size_shape_and_response_type() {
    if !is_root() {
        return;
    }
    for response_type in 0..=2 {
        let house = house(response_type, "");
        for (length, wrapped) in [(40, false), (40, true), (60_000, false)] {
            let canary = canary(length);
            let value = if wrapped {
                format!("{{\"a\":\"line\\nbreak \\\"{canary}\\\"\",\"b\":\"ü\"}}")
            } else {
                canary.clone()
            };
            house.read("s", &value, &canary);
            house.agent.read("s");
            house.purge("s");
            wait_until_wiped(
                &house.agent,
                &canary,
                &format!("purge, {length} bytes, type {response_type}"),
            );
        }
    }
}

#[test]
fn a_replaced_value_leaves_no_copy() {
    if !is_root() {
        return;
    }
    let house = house(0, "");
    let old = canary(40);
    house.read("s", &old, &old);
    house.cloud.put("s", "new");
    assert!(house.agent.read("s&refreshNow=true").text().contains("new"));
    wait_until_wiped(&house.agent, &old, "replacement");
}

#[test]
fn an_evicted_value_leaves_no_copy() {
    if !is_root() {
        return;
    }
    let house = house(0, "CacheSize = 1\n");
    let old = canary(40);
    house.read("s", &old, &old);
    house.cloud.put("t", "another");
    house.agent.read("t");
    wait_until_wiped(&house.agent, &old, "eviction");
}

#[test]
fn a_dead_value_leaves_no_copy_on_an_idle_agent() {
    if !is_root() {
        return;
    }
    let house = house(0, "TtlSeconds = 3\nMaxStaleSeconds = 0\n");
    let old = canary(40);
    house.read("s", &old, &old);
    wait_until_wiped(&house.agent, &old, "death by age");
}

#[test]
fn the_persistent_cache_holds_no_plaintext_at_rest() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::start();
    let path = folder.path().display();
    let agent = cloud
        .setup()
        .and_config(&format!(
            "[Cache]\nCacheType = \"Persistent\"\n[Cache.Persistent]\nPath = \"{path}/cache/store.redb\"\nKeyFile = \"{path}/keys/key\"\n"
        ))
        .start();
    let canary = canary(40);
    cloud.put("s", &canary);
    assert!(agent.read("s").text().contains(&canary));
    wait_until_wiped(&agent, &canary, "answering");
    assert!(
        agent
            .read("s")
            .header("cache-status")
            .unwrap()
            .starts_with("kms-agent; hit"),
        "it is still held"
    );
    wait_until_wiped(&agent, &canary, "answering from the cache");
}
