//! One running fetch a key, and who joins it.

use std::sync::Arc;

use kms_agent_cache::{CacheStatus, Demand};
use kms_agent_core::SourceErrorKind;
use kms_agent_test_support::{answer, secret_ref, throttled};

use crate::harness::{calm, harness, text};

#[tokio::test]
async fn readers_join_the_fetch_under_way() {
    let harness = harness(calm()).await;
    harness.source.hold();
    harness.source.then_value("one");
    let readers: Vec<_> = (0..50)
        .map(|_| {
            let service = Arc::clone(&harness.service);
            tokio::spawn(async move { service.read(&secret_ref("s"), Demand::Any).await })
        })
        .collect();
    harness.source.wait_for_calls(1).await;
    // Every reader that has not yet joined will find the fetch or the entry that it stored.
    harness.source.release(1);
    for reader in readers {
        let answer = reader.await.expect("no panic").expect("answered");
        assert_eq!(text(&answer), "one");
    }
    assert_eq!(harness.calls(), 1);
}

#[tokio::test]
async fn a_reader_who_goes_away_cancels_nothing() {
    let harness = harness(calm()).await;
    harness.source.hold();
    harness.source.then_value("one");
    let service = Arc::clone(&harness.service);
    let reader = tokio::spawn(async move { service.read(&secret_ref("s"), Demand::Any).await });
    harness.source.wait_for_calls(1).await;
    reader.abort();
    assert!(reader.await.is_err());
    harness.source.release(1);
    let answer = harness.read().await.expect("answered");
    assert_eq!(text(&answer), "one");
    assert_eq!(harness.calls(), 1);
}

#[tokio::test]
async fn refresh_now_is_answered_by_a_fetch_that_began_after_it() {
    let harness = harness(calm()).await;
    harness.source.hold();
    for value in ["old", "new"] {
        harness.source.then_value(value);
    }
    let spawn = |demand| {
        let service = Arc::clone(&harness.service);
        tokio::spawn(async move { service.read(&secret_ref("s"), demand).await })
    };
    let reader = spawn(Demand::Any);
    harness.source.wait_for_calls(1).await;
    let demanding = [
        spawn(Demand::RefreshNow),
        spawn(Demand::RefreshNow),
        spawn(Demand::RefreshNow),
    ];
    // The demanding readers join before anything is answered: the runtime has one thread and they were spawned
    // before this yields.
    tokio::task::yield_now().await;
    harness.source.release(1);
    assert_eq!(
        text(&reader.await.expect("no panic").expect("answered")),
        "old"
    );
    harness.source.wait_for_calls(2).await;
    harness.source.release(1);
    for reader in demanding {
        assert_eq!(
            text(&reader.await.expect("no panic").expect("answered")),
            "new"
        );
    }
    assert_eq!(harness.calls(), 2);
}

#[tokio::test]
async fn refresh_now_never_falls_back_and_leaves_the_copy() {
    let harness = harness(calm()).await;
    harness.source.then_value("one");
    harness.source.then_error(throttled());
    harness.read().await.expect("answered");
    let error = harness.refresh().await.expect_err("not answered");
    assert_eq!(error.kind(), SourceErrorKind::Throttled);
    assert!(matches!(
        harness.read().await.expect("answered").status,
        CacheStatus::Hit { .. }
    ));
}

#[tokio::test]
async fn a_crashed_fetch_is_an_error_and_the_next_one_works() {
    let harness = harness(calm()).await;
    harness.source.then(|_| panic!("the source crashed"));
    assert_eq!(
        harness.read().await.expect_err("not answered").kind(),
        SourceErrorKind::Unavailable
    );
    harness.source.then_value("one");
    assert_eq!(text(&harness.read().await.expect("answered")), "one");
}

#[tokio::test]
async fn readers_on_both_sides_of_the_moment_the_identity_is_learnt_share_one_call() {
    let harness = harness(calm()).await;
    harness.source.will_learn_scope();
    harness.source.hold();
    harness.source.then_value("one");
    let reader = || {
        let service = Arc::clone(&harness.service);
        tokio::spawn(async move { service.read(&secret_ref("s"), Demand::Any).await })
    };
    let early = reader();
    tokio::task::yield_now().await;
    harness
        .source
        .set_scope(Some(Arc::clone(&answer("one").scope)));
    let late = reader();
    harness.source.wait_for_calls(1).await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    harness.source.release(1);
    for reader in [early, late] {
        let answer = reader.await.expect("no panic").expect("answered");
        assert_eq!(text(&answer), "one");
    }
    assert_eq!(harness.source.calls().len(), 1);
}

#[tokio::test]
async fn a_fetch_that_landed_while_readers_looked_into_the_cache_is_theirs_too() {
    let harness = harness(calm()).await;
    harness.backend.set_dawdling(true);
    harness.source.then_value("value");
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let service = Arc::clone(&harness.service);
        readers.spawn(async move { service.read(&secret_ref("s"), Demand::Any).await });
    }
    let mut collapsed = 0;
    for answer in readers.join_all().await {
        let answer = answer.expect("answered");
        assert_eq!(text(&answer), "value");
        if let CacheStatus::Forwarded {
            collapsed: true, ..
        } = answer.status
        {
            collapsed += 1;
        }
    }
    assert_eq!((harness.calls(), collapsed), (1, 7));
}
