//! Watched secrets.

use std::sync::Arc;
use std::time::Duration;

use kms_agent_cache::{CacheStatus, Policy, Watch, WatchState};
use kms_agent_core::source::Purpose;
use kms_agent_core::{SourceErrorKind, Timestamp};
use kms_agent_test_support::{answer, secret_ref, throttled};

use crate::harness::{Harness, calm, harness, refused, secs};

fn then_version(harness: &Harness, version: &'static str) {
    then_rotating(harness, version, None);
}

fn then_rotating(harness: &Harness, version: &'static str, rotates_at: Option<Timestamp>) {
    harness.source.then(move |_| {
        let mut fetched = answer(version);
        fetched.secret.version_id = version.into();
        fetched.rotates_at = rotates_at;
        Ok(fetched)
    });
}

async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Advances the clock second by second, and lets every task run.
async fn pass(harness: &Harness, duration: Duration) {
    for _ in 0..duration.as_secs() {
        harness.clock.advance(secs(1));
        settle().await;
    }
}

fn version(state: &WatchState) -> &str {
    state.version().map_or("none", |version| version)
}

async fn next(watch: &mut Watch) -> WatchState {
    watch.changed().await
}

#[tokio::test]
async fn a_thousand_watchers_cost_one_call_a_period_and_learn_of_a_new_version() {
    let harness = harness(calm()).await;
    then_version(&harness, "v1");
    let mut watches: Vec<Watch> = (0..1000)
        .map(|_| harness.service.watch(&secret_ref("s")))
        .collect();
    for watch in &mut watches {
        assert_eq!(version(&next(watch).await), "v1");
    }
    assert_eq!(harness.source.calls()[0].1, Purpose::Watch);
    for _ in 0..3 {
        then_version(&harness, "v1");
    }
    pass(&harness, secs(100)).await;
    let calls = harness.calls();
    assert!((3..=4).contains(&calls), "{calls} calls in 100 s");
    for _ in calls..4 {
        then_version(&harness, "v1");
    }
    then_version(&harness, "v2");
    pass(&harness, secs(66)).await;
    for watch in &mut watches {
        assert_eq!(version(&next(watch).await), "v2");
    }
}

#[tokio::test]
async fn a_fresh_entry_is_the_state_and_is_checked_when_it_is_older_than_a_period() {
    let harness = harness(calm()).await;
    then_version(&harness, "v1");
    harness.read().await.expect("answered");
    harness.clock.advance(secs(10));
    let mut watch = harness.service.watch(&secret_ref("s"));
    assert_eq!(version(&next(&mut watch).await), "v1");
    pass(&harness, secs(19)).await;
    assert_eq!(harness.calls(), 1);
    then_version(&harness, "v2");
    pass(&harness, secs(5)).await;
    assert_eq!(version(&watch.state()), "v2");
    let answer = watch.read().await.expect("answered");
    assert!(matches!(answer.status, CacheStatus::Hit { .. }));
    assert_eq!(harness.calls(), 2);
}

#[tokio::test]
async fn what_a_reader_fetches_reaches_the_watchers_and_postpones_the_check() {
    let harness = harness(calm()).await;
    then_version(&harness, "v1");
    let mut watch = harness.service.watch(&secret_ref("s"));
    next(&mut watch).await;
    pass(&harness, secs(20)).await;
    then_version(&harness, "v2");
    harness.refresh().await.expect("answered");
    assert_eq!(version(&watch.state()), "v2");
    pass(&harness, secs(29)).await;
    assert_eq!(harness.calls(), 2);
}

#[tokio::test]
async fn a_rotation_is_seen_seconds_after_its_date() {
    let policy = Policy {
        watch_every: secs(3600),
        ..calm()
    };
    let harness = harness(policy).await;
    let clock = harness.service.timeline().clock();
    let rotates_at = clock.wall().plus(secs(60));
    then_rotating(&harness, "v1", Some(rotates_at));
    let mut watch = harness.service.watch(&secret_ref("s"));
    next(&mut watch).await;
    pass(&harness, secs(61)).await;
    assert_eq!(harness.calls(), 1);
    // The date stays in the past while a rotation is late, and is not a reason for more calls.
    then_rotating(&harness, "v2", Some(rotates_at));
    pass(&harness, secs(5)).await;
    assert_eq!(version(&watch.state()), "v2");
    pass(&harness, secs(600)).await;
    assert_eq!(harness.calls(), 2);
}

#[tokio::test]
async fn a_refusal_is_a_state_and_a_new_watcher_is_not_answered_with_an_old_one() {
    let harness = harness(calm()).await;
    let gone = || refused(SourceErrorKind::Decision, "Forbidden.ResourceNotFound");
    harness.source.then_error(gone());
    let mut watch = harness.service.watch(&secret_ref("s"));
    let WatchState::Refused(error) = next(&mut watch).await else {
        panic!("not refused");
    };
    assert_eq!(error.code(), "Forbidden.ResourceNotFound");
    pass(&harness, secs(6)).await;
    then_version(&harness, "v1");
    let mut second = harness.service.watch(&secret_ref("s"));
    assert!(matches!(second.state(), WatchState::Pending));
    assert_eq!(version(&next(&mut second).await), "v1");
    settle().await;
    assert_eq!(version(&watch.state()), "v1");
}

#[tokio::test]
async fn an_outage_changes_no_known_version_and_is_the_state_where_none_is_known() {
    let harness = harness(calm()).await;
    then_version(&harness, "v1");
    let mut known = harness.service.watch(&secret_ref("s"));
    next(&mut known).await;
    harness.source.then_error(throttled());
    let mut unknown = harness.service.watch(&secret_ref("other"));
    let state = next(&mut unknown).await;
    assert!(matches!(state, WatchState::Unavailable(_)));
    // Back-off: pauses of up to 1, 2, 4, 8, 16 and 30 seconds, for both.
    for _ in 0..40 {
        harness.source.then_error(throttled());
    }
    pass(&harness, secs(60)).await;
    assert_eq!(version(&known.state()), "v1");
    let calls = harness.calls();
    assert!((5..=20).contains(&calls), "{calls} calls in 60 s");
}

#[tokio::test]
async fn a_purge_makes_the_agent_ask_at_once() {
    let harness = harness(calm()).await;
    then_version(&harness, "v1");
    let mut watch = harness.service.watch(&secret_ref("s"));
    next(&mut watch).await;
    then_version(&harness, "v2");
    let service = Arc::clone(&harness.service);
    service.purge(&secret_ref("s").id).await.expect("purged");
    harness.source.wait_for_calls(2).await;
    settle().await;
    assert_eq!(version(&watch.state()), "v2");
    then_version(&harness, "v3");
    service.purge_all().await.expect("purged");
    settle().await;
    assert_eq!(version(&watch.state()), "v3");
}

#[tokio::test]
async fn the_task_ends_with_the_last_watcher() {
    let harness = harness(calm()).await;
    then_version(&harness, "v1");
    let mut first = harness.service.watch(&secret_ref("s"));
    let second = harness.service.watch(&secret_ref("s"));
    next(&mut first).await;
    drop(first);
    settle().await;
    assert_eq!(harness.clock.sleepers(), 1);
    drop(second);
    settle().await;
    assert_eq!(harness.clock.sleepers(), 0);
    pass(&harness, secs(60)).await;
    assert_eq!(harness.calls(), 1);
}

#[tokio::test]
async fn another_pace_counts_at_once() {
    let harness = harness(Policy {
        watch_every: secs(3600),
        ..calm()
    })
    .await;
    then_version(&harness, "v1");
    let mut watch = harness.service.watch(&secret_ref("s"));
    next(&mut watch).await;
    pass(&harness, secs(30)).await;
    then_version(&harness, "v2");
    harness
        .service
        .set_policy(Policy {
            watch_every: secs(5),
            ..calm()
        })
        .await;
    settle().await;
    assert_eq!(version(&watch.state()), "v2");
}

#[tokio::test]
async fn with_a_ttl_of_zero_only_the_version_is_kept() {
    let harness = harness(Policy {
        ttl: Duration::ZERO,
        ..calm()
    })
    .await;
    then_version(&harness, "v1");
    let mut watch = harness.service.watch(&secret_ref("s"));
    assert_eq!(version(&next(&mut watch).await), "v1");
    assert_eq!(harness.entries().await, 0);
    then_version(&harness, "v2");
    pass(&harness, secs(34)).await;
    assert_eq!(version(&watch.state()), "v2");
}

#[tokio::test]
async fn a_reader_waits_for_its_turn_where_the_check_that_it_joined_does_not() {
    let harness = harness(calm()).await;
    harness.source.hold();
    harness.source.then_error(refused_turn());
    let mut watch = harness.service.watch(&secret_ref("s"));
    harness.source.wait_for_calls(1).await;
    let service = Arc::clone(&harness.service);
    let reader = tokio::spawn(async move {
        let demand = kms_agent_cache::Demand::Any;
        service.read(&secret_ref("s"), demand).await
    });
    settle().await;
    then_version(&harness, "v1");
    harness.source.release(2);
    reader.await.expect("no panic").expect("answered");
    assert_eq!(harness.source.calls()[1].1, Purpose::Read);
    assert_eq!(version(&next(&mut watch).await), "v1");
}

fn refused_turn() -> kms_agent_core::SourceError {
    kms_agent_core::SourceError::new(SourceErrorKind::BudgetSpent, "the ceiling is reached")
}
