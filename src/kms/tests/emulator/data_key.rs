//! Data keys, against the emulator.

use kms_agent_core::DataKeySource;
use kms_agent_core::data_key::is_key;
use kms_agent_core::source::SourceErrorKind;
use kms_agent_emulator::{Action, Fault, FaultKind};
use serde_json::json;

use crate::agent::Agent;

const CONTEXT: &[(&str, &str)] = &[("product", "kms-agent"), ("prefix", "a b\"c")];

#[tokio::test]
async fn a_data_key_is_made_by_one_agent_and_decrypted_by_another() {
    let mut agent = Agent::start();
    let region = agent.emulator.region().to_owned();
    for key_id in ["key-a".to_owned(), format!("acs:kms:{region}:1:key/key-a")] {
        let made = agent
            .source()
            .generate(&key_id, CONTEXT)
            .await
            .expect("a key");
        agent.source = None;
        let found = agent
            .source()
            .decrypt(&made.ciphertext, CONTEXT)
            .await
            .expect("the key");
        assert_eq!(*found.plaintext, *made.plaintext);
        assert!(is_key(&key_id, &found.key_id));
        assert!(!is_key("key-b", &found.key_id));
    }
}

#[tokio::test]
async fn a_data_key_is_bound_to_its_context() {
    let mut agent = Agent::start();
    let made = agent
        .source()
        .generate("key-a", CONTEXT)
        .await
        .expect("a key");
    let error = agent
        .source()
        .decrypt(&made.ciphertext, &[("product", "other")])
        .await;
    let error = error.expect_err("another context");
    assert_eq!(error.kind(), SourceErrorKind::Refused);
    assert!(error.report().contains("kms:Decrypt"), "{}", error.report());
}

#[tokio::test]
async fn an_answer_about_another_key_or_of_another_size_is_not_taken() {
    for (member, value) in [
        ("KeyId", json!("key-b")),
        ("Plaintext", json!("AAAA")),
        ("CiphertextBlob", json!(null)),
    ] {
        let mut agent = Agent::start();
        let mut fault = Fault::new(FaultKind::Altered).on(Action::GenerateDataKey);
        fault.members.insert(member.to_owned(), value);
        agent.fault(fault);
        let made = agent.source().generate("key-a", CONTEXT).await;
        let error = made.expect_err("not the key that was asked for");
        assert_eq!(error.kind(), SourceErrorKind::InvalidAnswer, "{member}");
    }
}

#[tokio::test]
async fn transient_failures_of_a_data_key_are_retried_and_refusals_are_not() {
    let mut agent = Agent::start();
    agent.fault(
        Fault::new(FaultKind::Throttle)
            .on(Action::GenerateDataKey)
            .times(2),
    );
    assert!(agent.source().generate("key-a", CONTEXT).await.is_ok());
    assert_eq!(agent.calls(Action::GenerateDataKey), 3);

    let refusal = Fault::status(403, "Forbidden.NoPermission").on(Action::Decrypt);
    agent.fault(refusal);
    let error = agent
        .source()
        .decrypt("bm9uZQ==", CONTEXT)
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), SourceErrorKind::Refused);
    assert_eq!(error.code(), "Forbidden.NoPermission");
    assert_eq!(agent.calls(Action::Decrypt), 1);
}
