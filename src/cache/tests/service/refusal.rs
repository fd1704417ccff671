//! Refusals by KMS, and how long they are remembered.

use std::sync::Arc;

use kms_agent_cache::{Demand, Policy};
use kms_agent_core::SourceErrorKind;
use kms_agent_test_support::{ScriptedSource, answer, secret_ref, throttled};

use crate::harness::{calm, harness, refused, secs, text};

#[tokio::test]
async fn a_decision_drops_the_copy_and_is_remembered_and_refresh_now_asks_anyway() {
    let harness = harness(calm()).await;
    harness.source.then_value("one");
    let decision = || refused(SourceErrorKind::Decision, "Forbidden.ResourceNotFound");
    harness.source.then_error(decision());
    harness.read().await.expect("answered");
    assert_eq!(
        harness.refresh().await.expect_err("refused").code(),
        "Forbidden.ResourceNotFound"
    );
    for _ in 0..5 {
        assert_eq!(
            harness.read().await.expect_err("refused").code(),
            "Forbidden.ResourceNotFound"
        );
    }
    assert_eq!(harness.calls(), 2);
    harness.source.then_value("back");
    assert_eq!(text(&harness.refresh().await.expect("answered")), "back");
    assert_eq!(text(&harness.read().await.expect("answered")), "back");
    assert_eq!(harness.calls(), 3);
}

#[tokio::test]
async fn a_refusal_is_forgotten_after_its_time_and_the_copy_stays() {
    let harness = harness(calm()).await;
    harness.source.then_value("one");
    harness.source.then_error(refused(
        SourceErrorKind::Refused,
        "Rejected.PendingDeletion",
    ));
    harness.source.then_error(throttled());
    harness.read().await.expect("answered");
    harness.clock.advance(secs(300));
    assert_eq!(
        harness.read().await.expect_err("refused").code(),
        "Rejected.PendingDeletion"
    );
    assert_eq!(
        harness.read().await.expect_err("remembered").code(),
        "Rejected.PendingDeletion"
    );
    harness.clock.advance(secs(5));
    assert_eq!(
        text(&harness.read().await.expect("the copy stands in")),
        "one"
    );
    assert_eq!(harness.calls(), 3);
}

#[tokio::test]
async fn a_refusal_of_the_refresh_ahead_is_remembered_too() {
    let harness = harness(Policy::default()).await;
    harness.source.then_value("one");
    harness.read().await.expect("answered");
    harness.clock.advance(secs(290));
    harness.source.then_error(refused(
        SourceErrorKind::Refused,
        "Rejected.PendingDeletion",
    ));
    for _ in 0..50 {
        assert_eq!(
            text(&harness.read().await.expect("the copy is fresh")),
            "one"
        );
        tokio::task::yield_now().await;
    }
    assert_eq!(harness.calls(), 2);
}

#[tokio::test]
async fn a_refusal_of_the_source_before_a_reload_is_not_held_against_the_next() {
    let harness = harness(calm()).await;
    harness.source.hold();
    harness
        .source
        .then_error(refused(SourceErrorKind::Decision, "Forbidden.NoPermission"));
    let service = Arc::clone(&harness.service);
    let reader = tokio::spawn(async move { service.read(&secret_ref("s"), Demand::Any).await });
    harness.source.wait_for_calls(1).await;

    let next = ScriptedSource::new();
    let scope = kms_agent_core::Scope {
        endpoint: "elsewhere.example".into(),
        identity: "identity".into(),
    };
    let scope = Arc::new(scope);
    next.set_scope(Some(Arc::clone(&scope)));
    next.then(move |_| {
        Ok(kms_agent_core::secret::Fetched {
            scope,
            ..answer("elsewhere")
        })
    });
    harness.service.set_source(next);
    assert_eq!(text(&harness.read().await.expect("answered")), "elsewhere");
    harness.source.release(1);
    reader.await.expect("no panic").expect_err("refused");
    assert_eq!(
        text(&harness.read().await.expect("still held")),
        "elsewhere"
    );
}
