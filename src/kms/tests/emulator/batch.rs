//! Several secrets by one call, against the emulator.

use kms_agent_core::source::{BatchItem, BatchOutcome, BatchRequest, Purpose, SourceErrorKind};
use kms_agent_core::{Clock, SecretId, SecretRef, SecretSource, SourceError, VersionSelector};
use kms_agent_emulator::{Action, Fault, PutSecret};

use crate::agent::{Agent, NAME, holds};

fn item(id: &str, stage: Option<&str>) -> BatchItem {
    BatchItem {
        secret: SecretRef {
            id: SecretId::parse(id).expect("an id"),
            selector: VersionSelector::parse(None, stage).expect("a selector"),
        },
        extended_config: false,
    }
}

async fn batch(agent: &mut Agent, items: &[BatchItem]) -> Result<Vec<BatchOutcome>, SourceError> {
    let source = agent.source();
    source
        .fetch_batch(BatchRequest {
            secrets: items,
            purpose: Purpose::Read,
            arrived_at: kms_agent_cache::SystemClock.boot(),
        })
        .await
}

#[tokio::test]
async fn a_batch_brings_each_secret_or_its_refusal_by_one_call() {
    let mut agent = Agent::start();
    for value in ["one", "two"] {
        agent
            .emulator
            .put_secret(PutSecret::new("b", value))
            .expect("a secret");
    }
    agent.emulator.deny_secret("denied");
    let arn = format!("acs:kms:{}:1:secret/b", agent.emulator.region());
    let items = [
        item(NAME, None),
        item(&arn, Some("ACSPrevious")),
        item("none", None),
        item("denied", None),
    ];
    let outcomes = batch(&mut agent, &items).await.expect("an answer");
    let [first, second, none, denied] = outcomes.as_slice() else {
        panic!("{} outcomes", outcomes.len());
    };
    let secret = |outcome: &BatchOutcome, value: &str| match outcome {
        Some(Ok(fetched)) => {
            assert!(holds(fetched, value));
            assert_eq!(&*fetched.scope.identity, agent.emulator.access_key().id());
        }
        other => panic!("{other:?}"),
    };
    secret(first, "hunter2");
    secret(second, "one");
    for (outcome, code) in [
        (none, "Forbidden.ResourceNotFound"),
        (denied, "Forbidden.NoPermission"),
    ] {
        let Some(Err(error)) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(
            (error.kind(), error.code()),
            (SourceErrorKind::Decision, code)
        );
        assert!(
            error
                .refusal()
                .is_some_and(|refusal| refusal.request_id.is_some())
        );
    }
    assert_eq!(agent.calls(Action::BatchGetSecretValue), 1);
    assert_eq!(agent.calls(Action::GetSecretValue), 0);
}

#[tokio::test]
async fn a_gateway_that_does_not_know_batches_refuses_them_as_a_whole() {
    let mut agent = Agent::start();
    agent.fault(Fault::status(404, "InvalidApi.NotFound").on(Action::BatchGetSecretValue));
    let error = batch(&mut agent, &[item(NAME, None)])
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), SourceErrorKind::Refused);
}
