//! How many calls are under way, and what becomes of those that no reader waits for.

use std::sync::Arc;

use kms_agent_cache::Demand;
use kms_agent_core::SourceErrorKind;
use kms_agent_core::source::Purpose;
use kms_agent_test_support::secret_ref;
use tokio::task::JoinHandle;

use crate::harness::{Harness, calm, harness, secs, text};

/// As many as the source is asked for at once.
const LIMIT: usize = 256;

/// A reader of each of `count` secrets.
fn readers(harness: &Harness, prefix: &str, count: usize, demand: Demand) -> Vec<JoinHandle<()>> {
    (0..count)
        .map(|n| {
            let service = Arc::clone(&harness.service);
            let secret = secret_ref(&format!("{prefix}{n}"));
            tokio::spawn(async move {
                let _ = service.read(&secret, demand).await;
            })
        })
        .collect()
}

async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn calls_under_way_are_bounded_and_the_rest_waits_its_turn() {
    let harness = harness(calm()).await;
    harness.source.hold();
    let waiting = readers(&harness, "s", LIMIT + 50, Demand::Any);
    harness.source.wait_for_calls(LIMIT).await;
    settle().await;
    assert_eq!(harness.calls(), LIMIT);
    for _ in 0..LIMIT + 50 {
        harness.source.then_value("value");
    }
    harness.source.release(LIMIT + 50);
    for reader in waiting {
        reader.await.expect("no panic");
    }
    assert_eq!(harness.calls(), LIMIT + 50);
}

#[tokio::test]
async fn a_reader_beyond_the_bound_gets_an_error_at_its_deadline() {
    let harness = harness(calm()).await;
    harness.source.hold();
    let _waiting = readers(&harness, "s", LIMIT, Demand::Any);
    harness.source.wait_for_calls(LIMIT).await;
    let service = Arc::clone(&harness.service);
    let late = tokio::spawn(async move { service.read(&secret_ref("late"), Demand::Any).await });
    settle().await;
    assert!(!late.is_finished());
    harness.clock.advance(secs(10));
    let error = late.await.expect("no panic").expect_err("no turn came");
    assert_eq!(error.kind(), SourceErrorKind::BudgetSpent);
    assert!(error.retry_after().is_some());
}

#[tokio::test]
async fn an_unsent_fetch_without_readers_is_dropped() {
    let harness = harness(calm()).await;
    harness.source.hold();
    let held = readers(&harness, "held", LIMIT, Demand::Any);
    harness.source.wait_for_calls(LIMIT).await;
    for demand in [Demand::Any, Demand::RefreshNow] {
        for round in 0..10 {
            let leaving = readers(&harness, &format!("gone{round}-"), 100, demand);
            settle().await;
            for reader in leaving {
                reader.abort();
            }
            settle().await;
        }
    }
    let under_way = format!("{:?}", harness.service);
    assert!(under_way.contains(&format!("SingleFlight({LIMIT} under way)")));
    // Those that were sent run to their end, though no reader waits for them either.
    for reader in held {
        reader.abort();
    }
    for _ in 0..LIMIT {
        harness.source.then_value("value");
    }
    harness.source.release(LIMIT);
    while !format!("{:?}", harness.service).contains("SingleFlight(0 under way)") {
        tokio::task::yield_now().await;
    }
    assert_eq!(harness.calls(), LIMIT);
    assert!(harness.entries().await > 0, "what was answered is stored");
}

#[tokio::test]
async fn a_reader_that_joins_what_another_has_left_is_answered() {
    let harness = harness(calm()).await;
    harness.source.hold();
    let _held = readers(&harness, "held", LIMIT, Demand::Any);
    harness.source.wait_for_calls(LIMIT).await;
    let spawn = || {
        let service = Arc::clone(&harness.service);
        tokio::spawn(async move { service.read(&secret_ref("s"), Demand::Any).await })
    };
    let leaving = spawn();
    settle().await;
    leaving.abort();
    let staying = spawn();
    settle().await;
    for _ in 0..=LIMIT {
        harness.source.then_value("value");
    }
    harness.source.release(LIMIT + 1);
    let answer = staying.await.expect("no panic").expect("answered");
    assert_eq!(text(&answer), "value");
}

#[tokio::test]
async fn refreshes_of_held_entries_go_first_and_are_not_dropped() {
    let harness = harness(calm()).await;
    harness.source.then_value("old");
    harness.read().await.expect("answered");
    harness.clock.advance(secs(301));
    harness.source.hold();
    let _held = readers(&harness, "held", LIMIT, Demand::Any);
    harness.source.wait_for_calls(1 + LIMIT).await;
    let _waiting = readers(&harness, "waiting", 20, Demand::Any);
    settle().await;
    let service = Arc::clone(&harness.service);
    let reader = tokio::spawn(async move { service.read(&secret_ref("s"), Demand::Any).await });
    settle().await;
    reader.abort();
    settle().await;
    for _ in 0..2 {
        harness.source.then_value("value");
    }
    harness.source.release(1);
    harness.source.wait_for_calls(2 + LIMIT).await;
    let last = harness.source.calls().pop().expect("a call");
    assert_eq!((last.0, last.1), (secret_ref("s"), Purpose::Refresh));
}
