//! What KMS decides, and how long that is remembered.

use std::sync::Arc;

use kms_agent_cache::{Demand, Policy};
use kms_agent_core::SourceErrorKind;
use kms_agent_test_support::{ScriptedSource, answer, secret_ref, throttled};

use crate::house::{calm, house, refused, secs, text};

#[tokio::test]
async fn a_decision_drops_the_copy_and_is_remembered_and_refresh_now_asks_anyway() {
    let house = house(calm()).await;
    house.source.then_value("one");
    let decision = || refused(SourceErrorKind::Decision, "Forbidden.ResourceNotFound");
    house.source.then_error(decision());
    house.read().await.expect("answered");
    assert_eq!(
        house.refresh().await.expect_err("refused").code(),
        "Forbidden.ResourceNotFound"
    );
    for _ in 0..5 {
        assert_eq!(
            house.read().await.expect_err("refused").code(),
            "Forbidden.ResourceNotFound"
        );
    }
    assert_eq!(house.calls(), 2);
    house.source.then_value("back");
    assert_eq!(text(&house.refresh().await.expect("answered")), "back");
    assert_eq!(text(&house.read().await.expect("answered")), "back");
    assert_eq!(house.calls(), 3);
}

#[tokio::test]
async fn a_refusal_is_forgotten_after_its_time_and_the_copy_stays() {
    let house = house(calm()).await;
    house.source.then_value("one");
    house.source.then_error(refused(
        SourceErrorKind::Refused,
        "Rejected.PendingDeletion",
    ));
    house.source.then_error(throttled());
    house.read().await.expect("answered");
    house.clock.advance(secs(300));
    assert_eq!(
        house.read().await.expect_err("refused").code(),
        "Rejected.PendingDeletion"
    );
    assert_eq!(
        house.read().await.expect_err("remembered").code(),
        "Rejected.PendingDeletion"
    );
    house.clock.advance(secs(5));
    assert_eq!(
        text(&house.read().await.expect("the copy stands in")),
        "one"
    );
    assert_eq!(house.calls(), 3);
}

#[tokio::test]
async fn a_refusal_of_the_refresh_ahead_is_remembered_too() {
    let house = house(Policy::default()).await;
    house.source.then_value("one");
    house.read().await.expect("answered");
    house.clock.advance(secs(290));
    house.source.then_error(refused(
        SourceErrorKind::Refused,
        "Rejected.PendingDeletion",
    ));
    for _ in 0..50 {
        assert_eq!(text(&house.read().await.expect("the copy is fresh")), "one");
        tokio::task::yield_now().await;
    }
    assert_eq!(house.calls(), 2);
}

#[tokio::test]
async fn a_refusal_of_the_source_before_a_reload_is_not_held_against_the_next() {
    let house = house(calm()).await;
    house.source.hold();
    house
        .source
        .then_error(refused(SourceErrorKind::Decision, "Forbidden.NoPermission"));
    let service = Arc::clone(&house.service);
    let reader = tokio::spawn(async move { service.read(&secret_ref("s"), Demand::Any).await });
    house.source.wait_for_calls(1).await;

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
    house.service.set_source(next);
    assert_eq!(text(&house.read().await.expect("answered")), "elsewhere");
    house.source.release(1);
    reader.await.expect("no panic").expect_err("refused");
    assert_eq!(text(&house.read().await.expect("still held")), "elsewhere");
}
