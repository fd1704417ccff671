//! The rules of the table in docs/caching.md, with KMS calls counted.

use std::time::{Duration, Instant};

use kms_agent_emulator::{Fault, FaultKind};

use crate::harness::cloud::Cloud;

#[test]
fn nothing_is_stored_with_a_ttl_of_zero() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud
        .setup()
        .and_config("[Cache]\nTtlSeconds = 0\n")
        .start();
    for calls in 1..=3 {
        assert_eq!(
            agent.read("s").header("cache-status"),
            Some("kms-agent; fwd=bypass")
        );
        assert_eq!(cloud.reads(), calls);
    }
    assert_eq!(agent.get("/agent/status").json()["cache"]["entries"], 0);
}

#[test]
fn an_expired_copy_is_not_served_where_the_operator_forbids_it() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let config = format!(
        "[Server]\nHttpPort = 0\nIgnoreTransientErrors = false\n[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\nMaxAttempts = 1\n\
         [Cache]\nTtlSeconds = 1\n[Log]\nLogPath = \"\"\n",
        cloud.base_url()
    );
    let agent = cloud.setup().config(config).start();
    agent.read("s");
    cloud.fault(Fault::new(FaultKind::Cut)).unwrap();
    let began = Instant::now();
    loop {
        let reply = agent.read("s");
        if reply.status == 503 {
            assert_eq!(reply.json()["Code"], "KmsUnavailable");
            break;
        }
        let status = reply.header("cache-status").unwrap().to_owned();
        assert!(!status.contains("ttl=-"), "{status}");
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the copy never expires"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_capacity_holds_and_the_least_recently_used_go() {
    let cloud = Cloud::start();
    for n in 0..20 {
        cloud.put(&format!("s{n}"), "value");
    }
    let agent = cloud.setup().and_config("[Cache]\nCacheSize = 5\n").start();
    for n in 0..20 {
        agent.read(&format!("s{n}"));
    }
    let began = Instant::now();
    let status = loop {
        let status = agent.get("/agent/status").json();
        if status["cache"]["entries"].as_u64().unwrap() <= 5 {
            break status;
        }
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the capacity never holds"
        );
        std::thread::sleep(Duration::from_millis(50));
    };
    let names: Vec<&str> = status["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"s19") && !names.contains(&"s0"),
        "{names:?}"
    );
}

#[test]
fn an_entry_in_use_is_renewed_before_it_expires() {
    let cloud = Cloud::start();
    cloud.put("s", "old");
    let agent = cloud
        .setup()
        .and_config("[Cache]\nTtlSeconds = 4\n")
        .start();
    agent.read("s");
    cloud.put("s", "new");
    let began = Instant::now();
    loop {
        let reply = agent.read("s");
        let status = reply.header("cache-status").unwrap().to_owned();
        assert!(
            status.starts_with("kms-agent; hit; ttl=") && !status.contains("ttl=-"),
            "a reader never waits: {status}"
        );
        if reply.json()["SecretData"] == "new" {
            break;
        }
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "it is never renewed"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(cloud.reads(), 2);
}

#[test]
fn the_agents_own_ceiling_holds_and_readers_are_told_when_to_come_back() {
    let cloud = Cloud::start();
    for n in 0..20 {
        cloud.put(&format!("s{n}"), "value");
    }
    let agent = cloud
        .setup()
        .and_config("MaxRequestsPerSecond = 1\n")
        .start();
    let began = Instant::now();
    let replies: Vec<_> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..20)
            .map(|n| {
                let agent = &agent;
                scope.spawn(move || agent.read(&format!("s{n}")))
            })
            .collect();
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .collect()
    });
    let most = began.elapsed().as_secs() + 2;
    let (answered, refused): (Vec<_>, Vec<_>) =
        replies.iter().partition(|reply| reply.status == 200);
    assert!(cloud.reads() <= most, "{} calls in {most} s", cloud.reads());
    assert!(
        !answered.is_empty() && !refused.is_empty(),
        "{} answered",
        answered.len()
    );
    for reply in refused {
        assert!(
            reply.status == 503 || reply.status == 504,
            "{}",
            reply.text()
        );
        if reply.json()["Code"] == "UpstreamBudgetExceeded" {
            assert!(reply.header("retry-after").is_some());
        }
    }
    assert!(
        replies
            .iter()
            .any(|reply| reply.text().contains("UpstreamBudgetExceeded"))
    );
}

#[test]
fn what_kms_refused_is_asked_again_only_after_its_time() {
    let cloud = Cloud::start();
    let agent = cloud
        .setup()
        .and_config("[Cache]\nNegativeTtlSeconds = 2\n")
        .start();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        assert_eq!(agent.read("later").status, 404);
    }
    assert_eq!(cloud.reads(), 1);
    cloud.put("later", "value");
    while agent.read("later").status == 404 {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the refusal is never forgotten"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(cloud.reads(), 2);
}
