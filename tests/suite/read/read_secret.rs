//! The way of a secret from KMS through the cache to an application.

use std::sync::Barrier;
use std::time::Duration;

use kms_agent_emulator::PutSecret;
use kms_agent_test_support::{TOKEN, http};
use serde_json::json;

use crate::harness::cloud::Cloud;

#[test]
fn a_secret_is_fetched_once_and_then_answered_from_the_cache() {
    let cloud = Cloud::start();
    let version = cloud.put("app/db", r#"{"password":"pässword\n"}"#);
    let agent = cloud.setup().start();

    let first = agent.read("app/db");
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(
        first.header("cache-status"),
        Some("kms-agent; fwd=miss; stored")
    );
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.header("cache-control"), Some("no-store"));
    assert_eq!(first.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(first.header("age"), Some("0"));
    let body = first.json();
    assert_eq!(body["SecretName"], "app/db");
    assert_eq!(body["SecretData"], r#"{"password":"pässword\n"}"#);
    assert_eq!(body["VersionId"], version);
    assert_eq!(
        body["VersionStages"],
        json!({"VersionStage": ["ACSCurrent"]})
    );
    assert!(body["RequestId"].is_string());

    let by_path = agent.get("/v1/app/db");
    assert_eq!(by_path.body, first.body, "the answer is kept as it came");
    let status = by_path.header("cache-status").unwrap().to_owned();
    assert!(status.starts_with("kms-agent; hit; ttl="), "{status}");
    assert_eq!(cloud.reads(), 1);
    let calls = cloud.calls();
    assert!(
        calls[0]
            .user_agent
            .as_deref()
            .unwrap()
            .starts_with("alibabacloud-kms-agent/")
    );
}

#[test]
fn versions_and_stages_are_answered_as_asked() {
    let cloud = Cloud::start();
    let old = cloud.put("s", "old");
    let new = cloud.put("s", "new");
    cloud
        .put_secret(PutSecret::new("s", "test").stages(["blue"]))
        .unwrap();
    let agent = cloud.setup().start();
    let data = |query: &str| {
        let reply = agent.read(query);
        assert_eq!(reply.status, 200, "{query}: {}", reply.text());
        reply.json()["SecretData"].as_str().unwrap().to_owned()
    };
    assert_eq!(data("s"), "new");
    assert_eq!(data("s&versionStage=ACSCurrent"), "new");
    assert_eq!(data("s&versionStage=AWSCURRENT&versionId="), "new");
    assert_eq!(cloud.reads(), 1, "all three are the same question");
    assert_eq!(data("s&versionStage=ACSPrevious"), "old");
    assert_eq!(data("s&versionStage=AWSPREVIOUS"), "old");
    assert_eq!(data("s&versionStage=blue"), "test");
    assert_eq!(data(&format!("s&versionId={old}")), "old");
    assert_eq!(
        data(&format!("s&versionId={new}&versionStage=ACSCurrent")),
        "new"
    );
    let neither = agent.read(&format!("s&versionId={old}&versionStage=ACSCurrent"));
    assert!(neither.status >= 400, "{}", neither.text());
    let by_path = agent.get("/v1/s?versionStage=ACSPrevious");
    assert_eq!(by_path.json()["SecretData"], "old");
}

#[test]
fn refresh_now_brings_what_kms_has_now() {
    let cloud = Cloud::start();
    cloud.put("s", "one");
    let agent = cloud.setup().start();
    agent.read("s");
    cloud.put("s", "two");
    assert_eq!(agent.read("s").json()["SecretData"], "one");
    let fresh = agent.read("s&refreshNow=true");
    assert_eq!(fresh.json()["SecretData"], "two");
    assert_eq!(
        fresh.header("cache-status"),
        Some("kms-agent; fwd=request; stored")
    );
    assert_eq!(agent.read("s").json()["SecretData"], "two");
    assert_eq!(cloud.reads(), 2);
}

#[test]
fn a_thousand_cold_readers_are_one_call() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    // Every reader arrives while the first call is under way.
    cloud
        .fault(kms_agent_emulator::Fault::latency(Duration::from_millis(500)).times(1))
        .unwrap();
    let agent = cloud
        .setup()
        .config(format!(
            "[Server]\nHttpPort = 0\nMaxConn = 1000\n[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\n[Log]\nLogPath = \"\"\n",
            cloud.base_url()
        ))
        .start();
    let gate = Barrier::new(1000);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..1000)
            .map(|_| {
                std::thread::Builder::new()
                    .stack_size(256 * 1024)
                    .spawn_scoped(scope, || {
                        gate.wait();
                        agent.read("s")
                    })
                    .unwrap()
            })
            .collect();
        for reader in readers {
            let reply = reader.join().unwrap();
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_eq!(reply.json()["SecretData"], "value");
        }
    });
    assert_eq!(cloud.reads(), 1);
    let scrape = http::get(agent.port(), "/metrics", &[]).text().to_owned();
    let count = |result: &str| -> u64 {
        let series = format!("kms_agent_cache_reads_total{{result=\"{result}\"}} ");
        let line = scrape.lines().find_map(|line| line.strip_prefix(&series));
        line.expect("the series is there").parse().unwrap()
    };
    assert_eq!(count("miss"), 1);
    assert_eq!(count("hit") + count("collapsed"), 999);
}

#[test]
fn a_refusal_passes_through_and_is_remembered_for_a_moment() {
    let cloud = Cloud::start();
    let agent = cloud.setup().start();
    let refusal = agent.read("missing");
    assert_eq!(refusal.status, 404);
    let body = refusal.json();
    assert_eq!(body["Code"], "Forbidden.ResourceNotFound");
    assert!(body["RequestId"].is_string() && body["Message"].is_string());
    assert_eq!(
        agent.read("missing").json(),
        body,
        "the same answer, RequestId included"
    );
    assert_eq!(cloud.reads(), 1);

    cloud.put("denied", "value");
    cloud.deny_secret("denied");
    let refusal = agent.read("denied");
    assert_eq!(
        (refusal.status, refusal.json()["Code"].as_str()),
        (403, Some("Forbidden.NoPermission"))
    );
}

#[test]
fn without_the_token_there_is_nothing_but_health() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud.setup().start();
    let port = agent.port();
    let get = |target: &str, headers: &[(&str, &str)]| http::get(port, target, headers);

    for path in [
        "/secretsmanager/get?secretId=s",
        "/v1/s",
        "/nothing",
        "/agent/batch?secretId=s",
        "/agent/status",
    ] {
        for headers in [
            &[][..],
            &[("X-KMS-Token", "wrong")],
            &[("X-KMS-Token", TOKEN), ("x-kms-token", TOKEN)],
            &[("Authorization", TOKEN)],
        ] {
            let reply = get(path, headers);
            assert_eq!(
                (reply.status, reply.json()["Code"].as_str()),
                (403, Some("InvalidToken")),
                "{path}"
            );
        }
    }
    assert_eq!(get("/v1/s", &[("X-Vault-Token", TOKEN)]).status, 200);
    assert_eq!(
        get(
            "/v1/s",
            &[("x-kms-token", "wrong"), ("X-VAULT-TOKEN", TOKEN)]
        )
        .status,
        200
    );
    assert_eq!(
        get("/nothing", &[("X-KMS-Token", TOKEN)]).json()["Code"],
        "UnknownPath"
    );
    assert_eq!(get("/ping", &[]).text(), "healthy");
    assert_eq!(get("/livez", &[]).status, 200);
    let forwarded = get(
        "/v1/s",
        &[("X-KMS-Token", TOKEN), ("X-Forwarded-For", "10.0.0.1")],
    );
    assert_eq!(
        (forwarded.status, forwarded.json()["Code"].as_str()),
        (400, Some("ForwardedRequest"))
    );
    let rebound = http::send(port, b"GET /ping HTTP/1.1\r\nHost: evil.example\r\n\r\n").unwrap();
    assert_eq!(
        (rebound.status, rebound.json()["Code"].as_str()),
        (403, Some("ForbiddenHost"))
    );
    let head =
        format!("HEAD /v1/s HTTP/1.1\r\nHost: localhost:{port}\r\nX-KMS-Token: {TOKEN}\r\n\r\n");
    let mut answer = http::send_head(port, head.as_bytes()).unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")));
    answer = http::send(port, head.replace("HEAD", "POST").as_bytes()).unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")));
}

#[test]
fn it_stops_when_asked_to() {
    let cloud = Cloud::start();
    let agent = cloud.setup().start();
    let (status, log) = agent.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("Stopped"), "{log}");
}
