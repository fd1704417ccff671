//! Secrets that are fetched together.

use kms_agent_emulator::{Action, Fault};
use kms_agent_test_support::{TOKEN, TestAgent, http};

use crate::harness::cloud::Cloud;
use crate::operate::log::until;

fn agent_that_prefetches(cloud: &Cloud, names: &[String]) -> TestAgent {
    let list = format!("{names:?}");
    let setup = cloud.setup();
    setup
        .and_config(&format!("[Cache]\nPrefetch = {list}\n"))
        .start()
}

fn put(cloud: &Cloud, count: usize) -> Vec<String> {
    (0..count)
        .map(|index| {
            let name = format!("app/{index}");
            cloud.put(&name, &format!("value {index}"));
            name
        })
        .collect()
}

#[test]
fn prefetch_asks_for_twenty_secrets_by_one_call() {
    let cloud = Cloud::start();
    let names = put(&cloud, 25);
    let agent = agent_that_prefetches(&cloud, &names);
    until("prefetch", || agent.get("/readyz").status == 200);
    assert_eq!(cloud.count_calls(Action::BatchGetSecretValue), 2);
    for (index, name) in names.iter().enumerate() {
        let reply = agent.read(name);
        assert_eq!(reply.json()["SecretData"], format!("value {index}"));
        assert!(reply.json()["RequestId"].is_string());
    }
    assert_eq!(cloud.reads(), 0);
}

#[test]
fn a_gateway_that_refuses_batches_is_asked_one_by_one_for_an_hour() {
    let cloud = Cloud::start();
    let fault = Fault::status(404, "InvalidApi.NotFound").on(Action::BatchGetSecretValue);
    cloud.fault(fault).unwrap();
    let names = put(&cloud, 5);
    let agent = agent_that_prefetches(&cloud, &names);
    until("prefetch", || agent.get("/readyz").status == 200);
    assert_eq!(cloud.count_calls(Action::BatchGetSecretValue), 1);
    assert_eq!(cloud.reads(), 5);
}

/// Returns the names in `Secrets`, and the ids and codes in `Errors`.
fn outcome(reply: &http::Reply) -> (Vec<String>, Vec<(String, String)>) {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let body = reply.json();
    let list = |name: &str| body[name].as_array().unwrap().clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let secrets = list("Secrets")
        .into_iter()
        .map(|it| text(&it["SecretName"]));
    let errors = list("Errors").into_iter().map(|error| {
        assert!(!text(&error["Message"]).is_empty());
        (text(&error["SecretId"]), text(&error["Code"]))
    });
    (secrets.collect(), errors.collect())
}

#[test]
fn a_batch_fetches_all_that_is_not_cached_by_one_call() {
    let cloud = Cloud::start();
    let value = "{\"n\": 1.10, \"n\": 1e400}\n\u{7}ü";
    cloud.put("app/db", value);
    for name in ["app/a", "app/b", "held"] {
        cloud.put(name, "value");
    }
    let agent = cloud.setup().start();
    assert_eq!(agent.read("held").status, 200);
    let target = "/agent/batch?secretId=app/db&secretId=missing&secretId=held&secretId=app%2Fa\
                  &secretId=app/a&secretId=app/b";
    let reply = agent.get(target);
    let (secrets, errors) = outcome(&reply);
    assert_eq!(secrets, ["app/db", "held", "app/a", "app/b"]);
    let code = "Forbidden.ResourceNotFound".to_owned();
    assert_eq!(errors, [("missing".to_owned(), code)]);
    assert_eq!(cloud.count_calls(Action::BatchGetSecretValue), 1);
    assert_eq!(cloud.reads(), 1, "the one of before");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));

    for name in ["app/db", "held", "app/a", "app/b"] {
        let single = agent.read(name);
        assert!(reply.text().contains(single.text()), "{name}");
    }
    assert_eq!(agent.read("app/db").json()["SecretData"], value);
    assert_eq!(outcome(&agent.get(target)), (secrets, errors));
    assert_eq!(cloud.count_calls(Action::BatchGetSecretValue), 1);
    assert_eq!(cloud.reads(), 1);
}

#[test]
fn a_batch_of_more_than_twenty_secrets_is_refused() {
    let cloud = Cloud::start();
    let names = put(&cloud, 21);
    let agent = cloud.setup().start();
    let query: Vec<String> = names.iter().map(|it| format!("secretId={it}")).collect();
    let reply = agent.get(&format!("/agent/batch?{}", query.join("&")));
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json()["Code"], "InvalidParameter");
    let foreign = "/agent/batch?secretId=app/0&secretId=acs:kms:eu-central-1:1:secret/app/1";
    assert_eq!(agent.get(foreign).status, 400);
    assert!(cloud.calls().is_empty(), "{:?}", cloud.calls());

    let reply = agent.get(&format!("/agent/batch?{}", query[..20].join("&")));
    assert_eq!(outcome(&reply), (names[..20].to_vec(), vec![]));
    assert_eq!(cloud.count_calls(Action::BatchGetSecretValue), 1);
    assert_eq!(cloud.reads(), 0);
}

#[test]
fn a_secret_that_the_caller_may_not_use_is_an_error_of_the_batch() {
    let cloud = Cloud::start();
    for name in ["app/db", "app/api", "web/db"] {
        cloud.put(name, "value");
    }
    let agent = cloud
        .setup()
        .edit_config(|text| text.replace("[Server]", "[Server]\nDefaultSecrets = [\"app/*\"]"))
        .start();
    let reply = agent
        .get("/agent/batch?secretId=web/db&secretId=app/db&secretId=web/missing&secretId=app/api");
    let (secrets, errors) = outcome(&reply);
    assert_eq!(secrets, ["app/db", "app/api"]);
    let denied = |name: &str| (name.to_owned(), "AccessDenied".to_owned());
    assert_eq!(errors, [denied("web/db"), denied("web/missing")]);
    let messages = &reply.json()["Errors"];
    assert_eq!(messages[0]["Message"], messages[1]["Message"]);
    let asked = format!("{:?}", cloud.calls());
    assert!(!asked.contains("web/"), "{asked}");

    let calls = cloud.calls().len();
    let reply = agent.get("/agent/batch?secretId=web/db");
    assert_eq!(outcome(&reply), (vec![], vec![denied("web/db")]));
    assert_eq!(reply.header("age"), None);
    assert_eq!(cloud.calls().len(), calls, "KMS is not asked");
    assert!(!reply.text().contains(TOKEN));
}

#[test]
fn an_expired_secret_of_a_batch_shows_in_its_headers() {
    let cloud = Cloud::start();
    cloud.put("app/db", "value");
    cloud.put("fresh", "value");
    let agent = cloud
        .setup()
        .and_config("[[Secret]]\nMatch = \"app/*\"\nTtlSeconds = 1\n")
        .start();
    assert_eq!(agent.read("fresh").status, 200);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(agent.read("app/db").status, 200);
    std::thread::sleep(std::time::Duration::from_secs(2));
    cloud
        .fault(Fault::status(503, "ServiceUnavailable"))
        .unwrap();
    let reply = agent.get("/agent/batch?secretId=fresh&secretId=app/db&secretId=missing");
    let (secrets, errors) = outcome(&reply);
    assert_eq!(secrets, ["fresh", "app/db"]);
    assert_eq!(errors.len(), 1, "{errors:?}");
    let status = reply.header("cache-status").unwrap();
    assert!(
        status.contains("ttl=-") && status.contains("detail="),
        "{status}"
    );
    assert!(reply.header("age").is_some());
}
