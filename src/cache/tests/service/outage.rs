//! Reads during an outage of KMS, and the few calls that they cause.

use std::sync::Arc;
use std::time::Duration;

use kms_agent_cache::{Answer, CacheStatus, Demand};
use kms_agent_core::{SourceError, SourceErrorKind};
use kms_agent_test_support::{secret_ref, throttled};

use crate::harness::{Harness, calm, harness, refused, secs, text};

#[tokio::test]
async fn an_expired_copy_is_served_and_kms_is_left_alone_for_a_second() {
    let harness = harness(calm()).await;
    harness.source.then_value("one");
    harness.source.then_error(throttled());
    harness.read().await.expect("answered");
    harness.clock.advance(secs(337));
    let stale = |forwarded, since| CacheStatus::Stale {
        forwarded,
        since: secs(since),
        detail: "KmsThrottled".to_owned(),
    };
    let answer = harness.read().await.expect("answered");
    assert_eq!(
        (text(&answer), answer.status.clone()),
        ("one", stale(true, 37))
    );
    assert_eq!(answer.age, secs(337));
    for _ in 0..10 {
        assert_eq!(
            harness.read().await.expect("answered").status,
            stale(false, 37)
        );
    }
    assert_eq!(harness.calls(), 2);

    // A minute later a reader sets off a try in the background, and the one after it has the new value.
    harness.source.then_value("two");
    harness.clock.advance(secs(60));
    assert_eq!(
        harness.read().await.expect("answered").status,
        stale(false, 97)
    );
    harness.source.wait_for_calls(3).await;
    let fresh = loop {
        let answer = harness.read().await.expect("answered");
        if matches!(answer.status, CacheStatus::Hit { .. }) {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(text(&fresh), "two");
    assert_eq!(harness.calls(), 3);
}

#[tokio::test]
async fn a_reader_with_a_copy_waits_two_seconds_at_most() {
    let harness = harness(calm()).await;
    harness.source.then_value("one");
    harness.read().await.expect("answered");
    harness.clock.advance(secs(301));
    harness.source.hold();
    harness.source.then_value("two");
    let service = Arc::clone(&harness.service);
    let reader = tokio::spawn(async move { service.read(&secret_ref("s"), Demand::Any).await });
    harness.source.wait_for_calls(2).await;
    while !reader.is_finished() {
        harness.clock.advance(Duration::from_millis(100));
        tokio::task::yield_now().await;
    }
    let answer = reader.await.expect("no panic").expect("answered");
    assert_eq!(text(&answer), "one");
    assert!(matches!(
        answer.status,
        CacheStatus::Stale {
            forwarded: true,
            ..
        }
    ));
    // The fetch runs on and stores.
    harness.source.release(1);
    while text(&harness.read().await.expect("answered")) != "two" {
        tokio::task::yield_now().await;
    }
    assert_eq!(harness.calls(), 2);
}

/// Three secrets with copies that have just expired.
async fn three_expired(harness: &Harness) {
    for name in ["a", "b", "c"] {
        harness.source.then_value(name);
        harness.read_named(name).await.expect("answered");
    }
    harness.clock.advance(secs(300));
}

#[tokio::test]
async fn while_the_endpoint_fails_no_reader_waits_and_one_probe_runs() {
    let harness = harness(calm()).await;
    three_expired(&harness).await;
    harness.source.then_error(SourceError::new(
        SourceErrorKind::Unavailable,
        "no connection",
    ));
    let is_stale = |answer: &Answer, forwarded| matches!(&answer.status, CacheStatus::Stale { forwarded: f, .. } if *f == forwarded);
    assert!(is_stale(
        &harness.read_named("a").await.expect("answered"),
        true
    ));
    for name in ["a", "b", "c"] {
        assert!(
            is_stale(&harness.read_named(name).await.expect("answered"), false),
            "{name}"
        );
    }
    assert_eq!(harness.calls(), 4);

    // Time for a probe: only the first reader sends it.
    harness.clock.advance(secs(1));
    harness.source.hold();
    harness.source.then_error(SourceError::new(
        SourceErrorKind::Unavailable,
        "no connection",
    ));
    for name in ["b", "c", "a", "b"] {
        assert!(
            is_stale(&harness.read_named(name).await.expect("answered"), false),
            "{name}"
        );
    }
    harness.source.wait_for_calls(5).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(harness.calls(), 5);
    harness.source.release(1);

    // Back again: the next probe's answer ends it for every key, the failed one included.
    harness.source.then_value("b2");
    while harness.calls() < 6 {
        harness.clock.advance(Duration::from_millis(100));
        harness.read_named("b").await.expect("answered");
        tokio::task::yield_now().await;
    }
    harness.source.release(1);
    while text(&harness.read_named("b").await.expect("answered")) != "b2" {
        tokio::task::yield_now().await;
    }
    harness.source.then_value("c2");
    harness.source.release(1);
    assert_eq!(
        text(&harness.read_named("c").await.expect("answered")),
        "c2",
        "c was never failing by itself"
    );
}

#[tokio::test]
async fn a_failure_of_one_secret_is_not_held_against_the_others() {
    let harness = harness(calm()).await;
    three_expired(&harness).await;
    let failure = || refused(SourceErrorKind::ServerFailure, "InternalFailure");
    harness.source.then_error(failure());
    harness.read_named("a").await.expect("the copy stands in");
    harness.source.then_value("b2");
    assert_eq!(
        text(&harness.read_named("b").await.expect("answered")),
        "b2"
    );
    assert_eq!(harness.calls(), 5);
}

#[tokio::test]
async fn many_readers_of_one_slow_call_are_one_failure_and_concern_no_other_key() {
    let harness = harness(calm()).await;
    three_expired(&harness).await;
    harness.source.hold();
    harness.source.then_value("a2");
    let readers: Vec<_> = (0..30)
        .map(|_| {
            let service = Arc::clone(&harness.service);
            tokio::spawn(async move { service.read(&secret_ref("a"), Demand::Any).await })
        })
        .collect();
    harness.source.wait_for_calls(4).await;
    while !readers.iter().all(tokio::task::JoinHandle::is_finished) {
        harness.clock.advance(Duration::from_millis(100));
        tokio::task::yield_now().await;
    }
    for reader in readers {
        let answer = reader.await.expect("no panic").expect("answered");
        assert_eq!(text(&answer), "a");
        assert!(
            answer.age >= secs(302),
            "the age is that of the moment it was given"
        );
    }
    harness.source.then_value("b2");
    harness.source.release(2);
    assert_eq!(
        text(&harness.read_named("b").await.expect("answered")),
        "b2"
    );
    while text(&harness.read_named("a").await.expect("answered")) != "a2" {
        tokio::task::yield_now().await;
    }
    assert_eq!(harness.calls(), 5);
}
