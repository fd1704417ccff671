//! Answers that do not match the request are rejected.

use kms_agent_emulator::{Fault, FaultKind};
use kms_agent_test_support::TestAgent;
use serde_json::json;

use crate::harness::cloud::Cloud;

/// Answers with one mismatch each.
fn wrong() -> Vec<Fault> {
    let stages = |stages: serde_json::Value| json!({ "VersionStage": stages });
    let mut wrong = vec![
        Fault::altered("SecretName", "some/other/secret"),
        Fault::altered("SecretName", "APP/DB"),
        Fault::altered("SecretName", ""),
        Fault::altered("SecretName", "x".repeat(100_000)),
        Fault::altered("VersionStages", stages(json!(["ACSPrevious"]))),
        Fault::altered("VersionStages", stages(json!(["acscurrent"]))),
        Fault::altered(
            "VersionStages",
            stages(json!(["ACSCurrent", "\u{1b}[31m\r\n"])),
        ),
        Fault::altered(
            "VersionStages",
            stages(json!(["ACSCurrent", "x".repeat(900_000)])),
        ),
        Fault::altered("VersionStages", stages(json!(vec!["ACSCurrent"; 10_000]))),
    ];
    for version in [
        "",
        "v".repeat(900_000).as_str(),
        "\u{1b}[31m",
        "v\r\n",
        "v 1",
        "é",
    ] {
        wrong.push(Fault::altered("VersionId", version));
    }
    wrong
}

fn start(cloud: &Cloud, kms: &str) -> TestAgent {
    cloud.setup().and_config(kms).start()
}

#[test]
fn an_answer_to_another_question_is_not_believed_and_not_stored() {
    let cloud = Cloud::start();
    cloud.put("app/db", "right");
    let agent = start(&cloud, "MaxAttempts = 1\n");
    for fault in wrong() {
        cloud.fault(fault.clone()).unwrap();
        let reply = agent.read("app/db");
        let name = format!("{:.200}", format!("{fault:?}"));
        assert_eq!(
            (reply.status, reply.json()["Code"].as_str()),
            (502, Some("InvalidUpstreamAnswer")),
            "{name}"
        );
        cloud.clear_faults();
        let reply = agent.read("app/db");
        let status = reply.header("cache-status").unwrap();
        assert_eq!(status, "kms-agent; fwd=miss; stored", "{name}");
        assert_eq!(reply.json()["SecretData"], "right", "{name}");
        assert_eq!(purge(&agent), 1, "{name}");
    }
}

/// Purges the secret from `agent`; returns the number of removed entries.
fn purge(agent: &TestAgent) -> u64 {
    let port = agent.port();
    let token = kms_agent_test_support::TOKEN;
    let head = format!(
        "POST /agent/purge?secretId=app/db HTTP/1.1\r\nHost: localhost:{port}\r\nX-KMS-Token: {token}\r\nContent-Length: 0\r\n\r\n"
    );
    let reply = kms_agent_test_support::http::send(port, head.as_bytes()).unwrap();
    reply.json()["purged"].as_u64().unwrap()
}

#[test]
fn with_a_copy_it_is_a_failure_that_passes() {
    let cloud = Cloud::start();
    cloud.put("app/db", "right");
    let agent = start(
        &cloud,
        "MaxAttempts = 1\n[Cache]\nTtlSeconds = 1\nRefreshAhead = false\n",
    );
    assert_eq!(agent.read("app/db").status, 200);
    cloud
        .fault(Fault::altered("SecretName", "some/other/secret"))
        .unwrap();
    super::until_stale(&agent, "app/db", "InvalidUpstreamAnswer");
}

#[test]
fn an_answer_by_arn_may_name_the_secret_either_way() {
    let cloud = Cloud::start();
    cloud.put("app/db", "right");
    let agent = start(&cloud, "MaxAttempts = 1\n");
    let region = cloud.region().to_owned();
    let arn = format!("acs:kms:{region}:{}:secret/app/db", cloud.account_id());
    for name in ["app/db", &arn] {
        cloud.fault(Fault::altered("SecretName", name)).unwrap();
        let reply = agent.read(&format!("{arn}&refreshNow=1"));
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        cloud.clear_faults();
    }
}

#[test]
fn one_answer_too_many_poisons_no_other_secret() {
    let cloud = Cloud::start();
    let agent = start(&cloud, "");
    for round in 0..20 {
        let names: Vec<_> = (0..4).map(|n| format!("s{round}-{n}")).collect();
        for name in &names {
            cloud.put(name, name);
        }
        let poison = json!({
            "SecretName": "POISON", "VersionId": "v", "SecretData": "poisoned",
            "VersionStages": { "VersionStage": ["ACSCurrent"] },
        });
        let surplus = Fault::new(FaultKind::Surplus).times(1);
        cloud.fault(surplus.body(poison.to_string())).unwrap();
        // From then on the first connection is out of step.
        for name in &names {
            let reply = agent.read(name);
            assert_eq!(reply.status, 200, "{name}: {}", reply.text());
            assert_eq!(reply.json()["SecretData"], *name);
        }
    }
}
