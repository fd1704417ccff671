//! Fresh, expired and dead entries.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_cache::answer::ForwardReason;
use kms_agent_cache::{CacheStatus, Demand, Policy, Prefetch};
use kms_agent_core::source::Purpose;
use kms_agent_core::{CacheBackend, SourceErrorKind, Timeline};
use kms_agent_test_support::{answer, secret_ref, throttled};

use crate::harness::{calm, forwarded, harness, secs, text};

#[tokio::test]
async fn a_miss_asks_once_and_a_hit_does_not_ask() {
    let harness = harness(calm()).await;
    harness.source.then_value("one");
    let answer = harness.read().await.expect("answered");
    assert_eq!(
        (text(&answer), answer.status.clone()),
        ("one", forwarded(ForwardReason::Miss))
    );
    harness.clock.advance(secs(88));
    let answer = harness.read().await.expect("answered");
    assert_eq!(answer.status, CacheStatus::Hit { left: secs(212) });
    assert_eq!(answer.age, secs(88));
    assert_eq!(harness.calls(), 1);
}

#[tokio::test]
async fn an_expired_copy_is_fetched_again() {
    let harness = harness(calm()).await;
    harness.source.then_value("one");
    harness.source.then_value("two");
    harness.read().await.expect("answered");
    harness.clock.advance(secs(300));
    let answer = harness.read().await.expect("answered");
    assert_eq!(
        (text(&answer), answer.status.clone()),
        ("two", forwarded(ForwardReason::Stale))
    );
}

#[tokio::test]
async fn stale_copies_are_not_served_where_the_operator_forbids_it_or_when_dead() {
    let strict = Policy {
        serve_stale: false,
        ..calm()
    };
    for (policy, wait) in [(strict, 301), (calm(), 300 + 86_400)] {
        let harness = harness(policy).await;
        harness.source.then_value("one");
        harness.source.then_error(throttled());
        harness.read().await.expect("answered");
        harness.clock.advance(secs(wait));
        assert_eq!(
            harness.read().await.expect_err("not answered").kind(),
            SourceErrorKind::Throttled
        );
    }
}

#[tokio::test]
async fn a_version_asked_for_is_never_answered_by_another() {
    let harness = harness(calm()).await;
    harness.source.then_value("another version");
    let mut wanted = secret_ref("s");
    wanted.selector = kms_agent_core::VersionSelector::parse(Some("v7"), None).expect("valid");
    let error = harness
        .service
        .read(&wanted, Demand::Any)
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), SourceErrorKind::VersionNotFound);
    assert_eq!(harness.entries().await, 0);
}

#[tokio::test]
async fn an_entry_in_use_is_refreshed_before_it_expires() {
    let harness = harness(Policy::default()).await;
    harness.source.then_value("one");
    harness.source.then_value("two");
    harness.read().await.expect("answered");
    harness.clock.advance(secs(224));
    harness.read().await.expect("answered");
    tokio::task::yield_now().await;
    assert_eq!(harness.calls(), 1, "not before three quarters of its life");
    harness.clock.advance(secs(62));
    let answer = harness.read().await.expect("answered");
    assert_eq!(
        (text(&answer), &answer.status),
        ("one", &CacheStatus::Hit { left: secs(14) })
    );
    harness.source.wait_for_calls(2).await;
    while text(&harness.read().await.expect("answered")) != "two" {
        tokio::task::yield_now().await;
    }
    assert_eq!(harness.source.calls()[1].1, Purpose::Refresh);
    assert_eq!(harness.calls(), 2);
}

#[tokio::test]
async fn a_fresh_copy_that_only_the_second_look_found_is_a_hit() {
    let harness = harness(calm()).await;
    harness.source.then_value("one");
    harness.read().await.expect("answered");
    harness.clock.advance(secs(10));
    harness.backend.fail_next_look_up();
    let answer = harness.read().await.expect("answered");
    assert_eq!(text(&answer), "one");
    assert_eq!(answer.status, CacheStatus::Hit { left: secs(290) });
    assert_eq!((answer.age, harness.calls()), (secs(10), 1));
}

#[tokio::test]
async fn nothing_is_stored_with_a_ttl_of_zero_or_over_the_size_limit() {
    let none = Policy {
        ttl: Duration::ZERO,
        ..calm()
    };
    let first = harness(none).await;
    first.source.then_value("one");
    let status = first.read().await.expect("answered").status;
    assert_eq!(
        status,
        CacheStatus::Forwarded {
            reason: ForwardReason::Bypass,
            stored: false,
            collapsed: false
        }
    );
    assert_eq!(first.entries().await, 0);

    let second = harness(calm()).await;
    second.source.then_value(&"x".repeat(256 * 1024 + 1));
    let status = second.read().await.expect("answered").status;
    assert!(matches!(
        status,
        CacheStatus::Forwarded { stored: false, .. }
    ));
    assert_eq!(second.entries().await, 0);
}

#[tokio::test]
async fn trouble_of_the_backend_fails_no_read() {
    let harness = harness(calm()).await;
    harness.backend.set_failing(true);
    for value in ["one", "two"] {
        harness.source.then_value(value);
        let answer = harness.read().await.expect("answered");
        assert_eq!(text(&answer), value);
        assert!(matches!(
            answer.status,
            CacheStatus::Forwarded { stored: false, .. }
        ));
    }
    harness.backend.set_failing(false);
    harness.source.then_value("three");
    harness.read().await.expect("answered");
    assert!(matches!(
        harness.read().await.expect("answered").status,
        CacheStatus::Hit { .. }
    ));
}

#[tokio::test]
async fn a_first_fetch_teaches_the_scope_it_is_filed_under() {
    let harness = harness(calm()).await;
    harness.source.set_scope(None);
    let source = Arc::clone(&harness.source);
    harness.source.then(move |_| {
        let fetched = answer("one");
        source.set_scope(Some(Arc::clone(&fetched.scope)));
        Ok(fetched)
    });
    harness.read().await.expect("answered");
    assert!(matches!(
        harness.read().await.expect("answered").status,
        CacheStatus::Hit { .. }
    ));
}

#[tokio::test]
async fn a_new_policy_lets_held_entries_live_longer_or_die_sooner() {
    let short = Policy {
        max_stale: secs(100),
        ..calm()
    };
    let long = Policy {
        max_stale: secs(10_000),
        ..calm()
    };
    let harness = harness(short.clone()).await;
    harness.source.then_value("one");
    harness.read().await.expect("answered");
    harness.service.set_policy(long).await;
    harness.clock.advance(secs(300 + 5000));
    harness.source.then_error(throttled());
    assert_eq!(
        text(&harness.read().await.expect("the copy stands in")),
        "one"
    );

    harness.service.set_policy(short).await;
    harness.source.then_error(throttled());
    harness.read().await.expect_err("the copy is dead");
    harness
        .backend
        .sweep(Timeline::new(Arc::new(harness.clock.clone())).now())
        .await
        .expect("swept");
    assert_eq!(harness.entries().await, 0);
}

#[tokio::test]
async fn prefetch_loads_its_list_and_tries_again_what_fails() {
    let harness = harness(calm()).await;
    harness.source.then_error(throttled());
    harness.source.then_value("one");
    let prefetch = Prefetch::new(vec![secret_ref("s")]);
    assert!(!prefetch.counts().first_pass_is_over());
    let running = tokio::spawn(Arc::clone(&prefetch).run(Arc::clone(&harness.service)));
    while prefetch.counts().failed == 0 {
        harness.clock.advance(Duration::from_millis(10));
        tokio::task::yield_now().await;
    }
    assert!(prefetch.counts().first_pass_is_over());
    while !running.is_finished() {
        harness.clock.advance(Duration::from_millis(100));
        tokio::task::yield_now().await;
    }
    running.await.expect("no panic");
    assert_eq!(prefetch.counts().done, 1);
    assert!(matches!(
        harness.read().await.expect("answered").status,
        CacheStatus::Hit { .. }
    ));
    assert_eq!(harness.calls(), 2);
}

#[tokio::test]
async fn an_answer_too_large_to_store_takes_the_place_of_the_copy_all_the_same() {
    let harness = harness(calm()).await;
    let large = "x".repeat(256 * 1024 + 1);
    for value in ["small", &large, &large] {
        harness.source.then_value(value);
    }
    harness.read().await.expect("answered");
    harness.refresh().await.expect("answered");
    assert_eq!(text(&harness.read().await.expect("answered")), large);
}

#[tokio::test]
async fn new_rules_drop_what_belongs_to_another_identity() {
    let harness = harness(calm()).await;
    let scope = |identity: &str| {
        Arc::new(kms_agent_core::Scope {
            endpoint: "kms.example".into(),
            identity: identity.into(),
        })
    };
    for identity in ["former", "present"] {
        let scope = scope(identity);
        harness.source.set_scope(Some(Arc::clone(&scope)));
        harness.source.then(move |_| {
            Ok(kms_agent_core::secret::Fetched {
                scope,
                ..answer(identity)
            })
        });
        harness.read().await.expect("answered");
    }
    harness
        .service
        .set_policy(Policy {
            max_stale: Duration::from_mins(1),
            ..calm()
        })
        .await;
    let all = NonZeroUsize::new(10).expect("not zero");
    let left = harness.service.entries(None, all).await.expect("works");
    let left: Vec<_> = left.items.into_iter().map(|item| item.key.scope).collect();
    assert_eq!(left, [scope("present")]);
}
