//! One running fetch a key, and who joins it.

use std::sync::Arc;

use kms_agent_cache::{CacheStatus, Demand};
use kms_agent_core::SourceErrorKind;
use kms_agent_test_support::{answer, secret_ref, throttled};

use crate::house::{calm, house, text};

#[tokio::test]
async fn readers_join_the_fetch_under_way() {
    let house = house(calm()).await;
    house.source.hold();
    house.source.then_value("one");
    let readers: Vec<_> = (0..50)
        .map(|_| {
            let service = Arc::clone(&house.service);
            tokio::spawn(async move { service.read(&secret_ref("s"), Demand::Any).await })
        })
        .collect();
    house.source.wait_for_calls(1).await;
    // Every reader that has not yet joined will find the flight or the copy it brought.
    house.source.release(1);
    for reader in readers {
        let answer = reader.await.expect("no panic").expect("answered");
        assert_eq!(text(&answer), "one");
    }
    assert_eq!(house.calls(), 1);
}

#[tokio::test]
async fn a_reader_who_goes_away_cancels_nothing() {
    let house = house(calm()).await;
    house.source.hold();
    house.source.then_value("one");
    let service = Arc::clone(&house.service);
    let reader = tokio::spawn(async move { service.read(&secret_ref("s"), Demand::Any).await });
    house.source.wait_for_calls(1).await;
    reader.abort();
    assert!(reader.await.is_err());
    house.source.release(1);
    let answer = house.read().await.expect("answered");
    assert_eq!(text(&answer), "one");
    assert_eq!(house.calls(), 1);
}

#[tokio::test]
async fn refresh_now_is_answered_by_a_fetch_that_began_after_it() {
    let house = house(calm()).await;
    house.source.hold();
    for value in ["old", "new"] {
        house.source.then_value(value);
    }
    let spawn = |demand| {
        let service = Arc::clone(&house.service);
        tokio::spawn(async move { service.read(&secret_ref("s"), demand).await })
    };
    let reader = spawn(Demand::Any);
    house.source.wait_for_calls(1).await;
    let demanding = [
        spawn(Demand::RefreshNow),
        spawn(Demand::RefreshNow),
        spawn(Demand::RefreshNow),
    ];
    // The demanding readers board before anything lands: the runtime has one thread and they were spawned
    // before this yields.
    tokio::task::yield_now().await;
    house.source.release(1);
    assert_eq!(
        text(&reader.await.expect("no panic").expect("answered")),
        "old"
    );
    house.source.wait_for_calls(2).await;
    house.source.release(1);
    for reader in demanding {
        assert_eq!(
            text(&reader.await.expect("no panic").expect("answered")),
            "new"
        );
    }
    assert_eq!(house.calls(), 2);
}

#[tokio::test]
async fn refresh_now_never_falls_back_and_leaves_the_copy() {
    let house = house(calm()).await;
    house.source.then_value("one");
    house.source.then_error(throttled());
    house.read().await.expect("answered");
    let error = house.refresh().await.expect_err("not answered");
    assert_eq!(error.kind(), SourceErrorKind::Throttled);
    assert!(matches!(
        house.read().await.expect("answered").status,
        CacheStatus::Hit { .. }
    ));
}

#[tokio::test]
async fn a_crashed_fetch_is_an_error_and_the_next_one_works() {
    let house = house(calm()).await;
    house.source.then(|_| panic!("the source crashed"));
    assert_eq!(
        house.read().await.expect_err("not answered").kind(),
        SourceErrorKind::Unavailable
    );
    house.source.then_value("one");
    assert_eq!(text(&house.read().await.expect("answered")), "one");
}

#[tokio::test]
async fn readers_on_both_sides_of_the_moment_the_identity_is_learnt_share_one_call() {
    let house = house(calm()).await;
    house.source.will_learn_scope();
    house.source.hold();
    house.source.then_value("one");
    let reader = || {
        let service = Arc::clone(&house.service);
        tokio::spawn(async move { service.read(&secret_ref("s"), Demand::Any).await })
    };
    let early = reader();
    tokio::task::yield_now().await;
    house
        .source
        .set_scope(Some(Arc::clone(&answer("one").scope)));
    let late = reader();
    house.source.wait_for_calls(1).await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    house.source.release(1);
    for reader in [early, late] {
        let answer = reader.await.expect("no panic").expect("answered");
        assert_eq!(text(&answer), "one");
    }
    assert_eq!(house.source.calls().len(), 1);
}

#[tokio::test]
async fn a_fetch_that_landed_while_readers_looked_into_the_cache_is_theirs_too() {
    let house = house(calm()).await;
    house.backend.set_dawdling(true);
    house.source.then_value("value");
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let service = Arc::clone(&house.service);
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
    assert_eq!((house.calls(), collapsed), (1, 7));
}
