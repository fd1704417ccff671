//! Reload at SIGHUP.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kms_agent_test_support::TestAgent;
use rustix::process::Signal;

use crate::harness::cloud::Cloud;
use crate::operate::log::until;

/// Rewrites the agent's config, sends SIGHUP, and waits for `said` in the log.
fn reload(agent: &TestAgent, change: impl Fn(&str) -> String, said: &str) {
    let path = agent.folder().join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, change(&text)).unwrap();
    let before = agent.stderr().matches(said).count();
    agent.signal(Signal::HUP);
    let began = Instant::now();
    while agent.stderr().matches(said).count() == before {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "no {said:?} in:\n{}",
            agent.stderr()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

const RELOADED: &str = "The configuration was reloaded";

#[test]
fn a_shorter_ttl_counts_for_entries_already_held() {
    let cloud = Cloud::start();
    cloud.put("s", "old");
    let agent = cloud.setup().start();
    agent.read("s");
    cloud.put("s", "new");
    assert_eq!(agent.read("s").json()["SecretData"], "old");
    reload(
        &agent,
        |text| format!("{text}[Cache]\nTtlSeconds = 1\n"),
        RELOADED,
    );
    let began = Instant::now();
    while agent.read("s").json()["SecretData"] != "new" {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the new TTL never counts"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_rule_for_some_secrets_counts_for_entries_already_held() {
    let cloud = Cloud::start();
    for name in ["app/db", "web"] {
        cloud.put(name, "old");
    }
    let agent = cloud.setup().start();
    let value = |name| agent.read(name).json()["SecretData"].clone();
    for name in ["app/db", "web"] {
        assert_eq!(value(name), "old");
        cloud.put(name, "new");
    }
    reload(
        &agent,
        |text| format!("{text}[[Secret]]\nMatch = \"app/*\"\nTtlSeconds = 1\n"),
        RELOADED,
    );
    let began = Instant::now();
    while value("app/db") != "new" {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the rule never counts"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(value("web"), "old");
}

#[test]
fn another_kms_takes_over_without_a_dropped_request() {
    let (here, there) = (Cloud::start(), Cloud::start());
    // Both clouds know the agent's key.
    there.add_access_key(here.access_key().clone());
    here.put("s", "here");
    there.put("s", "there");
    let agent = here.setup().start();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        let reply = agent.read("s&refreshNow=true");
                        assert_eq!(reply.status, 200, "{}", reply.text());
                        seen.push(reply.json()["SecretData"].as_str().unwrap().to_owned());
                    }
                    seen
                })
            })
            .collect();
        reload(
            &agent,
            |text| text.replace(here.base_url(), there.base_url()),
            RELOADED,
        );
        assert_eq!(
            agent.read("s").json()["SecretData"],
            "there",
            "no entry of one endpoint passes for the other's"
        );
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            let mut seen = reader.join().unwrap();
            seen.dedup();
            assert!(
                seen.len() <= 2 && seen.iter().all(|value| value == "here" || value == "there"),
                "{seen:?}"
            );
        }
    });
}

#[test]
fn a_bad_file_is_refused_whole_and_fixed_keys_are_told() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud.setup().start();
    reload(
        &agent,
        |text| format!("{text}[Cache]\nTtlSeconds = 0\nNoSuchKey = 1\n"),
        "the old configuration stays in force",
    );
    agent.read("s");
    assert!(
        agent
            .read("s")
            .header("cache-status")
            .unwrap()
            .starts_with("kms-agent; hit"),
        "the TTL did not change"
    );

    reload(
        &agent,
        |text| {
            text.replace("TtlSeconds = 0\nNoSuchKey = 1\n", "CacheSize = 5\n")
                .replace("LogLevel = \"Debug\"", "LogLevel = \"Info\"")
        },
        "These changes need a restart",
    );
    let log = agent.stderr();
    assert!(log.contains("keys=\"Cache.CacheSize\""), "{log}");
    assert!(log.contains("changed=\"Log.LogLevel\""), "{log}");
}

#[test]
fn the_log_moves_to_another_file_and_loses_no_line() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let config = format!(
        "[Server]\nHttpPort = 0\n[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\n\
         [Log]\nLogLevel = \"Debug\"\nLogPath = \"./logs/\"\n",
        cloud.base_url()
    );
    let agent = cloud.setup().config(config).start();
    agent.read("s");
    let path = agent.folder().join("logs/json/kms-agent.log");
    let config = agent.folder().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("\"./logs/\"", "\"./logs/json\"\nFormat = \"Json\""),
    )
    .unwrap();
    agent.signal(Signal::HUP);
    let began = Instant::now();
    while !std::fs::read_to_string(&path).is_ok_and(|text| text.contains(RELOADED)) {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the log never moves:\n{}",
            agent.stderr()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let reads = 50;
    for _ in 0..reads {
        agent.read("s");
    }
    // The file is opened before the folder is deleted.
    let mut log = std::fs::File::open(&path).unwrap();
    agent.stop();
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines
            .iter()
            .filter(|line| line["target"] == "access")
            .count(),
        reads
    );
    assert!(text.contains("Stopped"));
}

/// Starts an agent by a shell that runs `before` and passes `source` as the config. `$config` is the config
/// file.
fn config_from(cloud: &Cloud, before: &str, source: &str) -> TestAgent {
    let script =
        format!("config=\"${{@: -1}}\"; set -- \"${{@:1:$#-1}}\"; {before}\nexec \"$@\" {source}");
    cloud.setup().by(&script).start()
}

#[test]
fn a_config_that_can_be_read_only_once_starts_an_agent_and_is_not_read_again() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    for (before, source) in [
        ("", "<(cat \"$config\")"),
        ("", "/dev/stdin < <(cat \"$config\")"),
        ("mkfifo pipe; cat \"$config\" >pipe &", "pipe"),
    ] {
        let agent = config_from(&cloud, before, source);
        assert_eq!(agent.read("s").status, 200, "{source}");
        for time in 1..=2 {
            agent.signal(Signal::HUP);
            let refused = "can be read only once; restart the agent to read another config";
            until("it is refused", || {
                agent.stderr().matches(refused).count() == time
            });
        }
        let reply = agent.read("s");
        assert!(
            reply.header("cache-status").unwrap().contains("; hit"),
            "{source}"
        );
    }
}

#[test]
fn a_config_from_standard_input_that_is_a_file_is_read_again() {
    let cloud = Cloud::start();
    let agent = config_from(&cloud, "", "/dev/stdin <\"$config\"");
    agent.signal(Signal::HUP);
    until("it is reloaded", || agent.stderr().contains(RELOADED));
}

#[test]
fn an_emptied_file_is_refused() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud.setup().start();
    agent.read("s");
    for empty in ["", " \n\n", "# [KMS]\n", "[KMS]\n[Log]\n"] {
        reload(
            &agent,
            |_| empty.to_owned(),
            "a file without any key is not taken in a reload",
        );
        let reply = agent.read("s");
        assert_eq!(reply.status, 200);
        assert!(reply.header("cache-status").unwrap().contains("; hit"));
    }
}

#[test]
fn an_empty_file_that_started_the_agent_may_stay_empty() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud
        .setup()
        .config("# The variables say all.\n")
        .env("KMS_AGENT_SERVER_HTTP_PORT", "0")
        .env("KMS_AGENT_KMS_ENDPOINT", cloud.base_url())
        .env("KMS_AGENT_LOG_LOG_PATH", "")
        .start();
    assert_eq!(agent.read("s").status, 200);
    agent.signal(Signal::HUP);
    until("it is reloaded", || agent.stderr().contains(RELOADED));
    assert_eq!(agent.read("s").status, 200);
}

#[test]
fn a_config_that_lost_the_place_of_kms_is_refused() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud.setup().start();
    assert_eq!(agent.read("s").status, 200);
    reload(
        &agent,
        |_| "[Server]\nHttpPort = 0\n[Log]\nLogPath = \"\"\n".to_owned(),
        "The config file no longer has KMS.Region or KMS.Endpoint",
    );
    let reply = agent.read("s");
    assert_eq!(reply.status, 200);
    assert!(reply.header("cache-status").unwrap().contains("; hit"));
}

#[test]
fn a_key_of_the_official_agent_is_warned_of_once() {
    let cloud = Cloud::start();
    let config = "[Server]\nHttpPort = 0\n[Log]\nLogPath = \"\"\nMaxAge = 30\nCompress = true\n";
    let agent = cloud.setup().config(config).start();
    reload(&agent, |text| format!("{text}# changed\n"), RELOADED);
    reload(
        &agent,
        |text| format!("{text}LocalTime = true\n"),
        "Log.LocalTime",
    );
    let (_, said) = agent.stop();
    assert_eq!(
        said.matches("is a key of the official agent").count(),
        3,
        "{said}"
    );
}
