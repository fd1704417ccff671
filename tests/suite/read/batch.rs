//! Secrets that are fetched together.

use kms_agent_emulator::{Action, Fault};
use kms_agent_test_support::TestAgent;

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
