//! What an entry is worth, and for how long.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_cache::answer::ForwardReason;
use kms_agent_cache::{CacheStatus, Demand, Policy, Prefetch};
use kms_agent_core::source::Purpose;
use kms_agent_core::{CacheBackend, SourceErrorKind, Timeline};
use kms_agent_test_support::{answer, secret_ref, throttled};

use crate::house::{calm, forwarded, house, secs, text};

#[tokio::test]
async fn a_miss_asks_once_and_a_hit_does_not_ask() {
    let house = house(calm()).await;
    house.source.then_value("one");
    let answer = house.read().await.expect("answered");
    assert_eq!(
        (text(&answer), answer.status.clone()),
        ("one", forwarded(ForwardReason::Miss))
    );
    house.clock.advance(secs(88));
    let answer = house.read().await.expect("answered");
    assert_eq!(answer.status, CacheStatus::Hit { left: secs(212) });
    assert_eq!(answer.age, secs(88));
    assert_eq!(house.calls(), 1);
}

#[tokio::test]
async fn an_expired_copy_is_fetched_anew() {
    let house = house(calm()).await;
    house.source.then_value("one");
    house.source.then_value("two");
    house.read().await.expect("answered");
    house.clock.advance(secs(300));
    let answer = house.read().await.expect("answered");
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
        let house = house(policy).await;
        house.source.then_value("one");
        house.source.then_error(throttled());
        house.read().await.expect("answered");
        house.clock.advance(secs(wait));
        assert_eq!(
            house.read().await.expect_err("not answered").kind(),
            SourceErrorKind::Throttled
        );
    }
}

#[tokio::test]
async fn a_version_asked_for_is_never_answered_by_another() {
    let house = house(calm()).await;
    house.source.then_value("another version");
    let mut wanted = secret_ref("s");
    wanted.selector = kms_agent_core::VersionSelector::parse(Some("v7"), None).expect("valid");
    let error = house
        .service
        .read(&wanted, Demand::Any)
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), SourceErrorKind::VersionNotFound);
    assert_eq!(
        house.service.backend_stats().await.expect("works").entries,
        0
    );
}

#[tokio::test]
async fn an_entry_in_use_is_refreshed_before_it_expires() {
    let house = house(Policy::default()).await;
    house.source.then_value("one");
    house.source.then_value("two");
    house.read().await.expect("answered");
    house.clock.advance(secs(224));
    house.read().await.expect("answered");
    tokio::task::yield_now().await;
    assert_eq!(house.calls(), 1, "not before three quarters of its life");
    house.clock.advance(secs(62));
    let answer = house.read().await.expect("answered");
    assert_eq!(
        (text(&answer), &answer.status),
        ("one", &CacheStatus::Hit { left: secs(14) })
    );
    house.source.wait_for_calls(2).await;
    while text(&house.read().await.expect("answered")) != "two" {
        tokio::task::yield_now().await;
    }
    assert_eq!(house.source.calls()[1].1, Purpose::Refresh);
    assert_eq!(house.calls(), 2);
}

#[tokio::test]
async fn a_fresh_copy_that_only_the_second_look_found_is_a_hit() {
    let house = house(calm()).await;
    house.source.then_value("one");
    house.read().await.expect("answered");
    house.clock.advance(secs(10));
    house.backend.fail_next_look_up();
    let answer = house.read().await.expect("answered");
    assert_eq!(text(&answer), "one");
    assert_eq!(answer.status, CacheStatus::Hit { left: secs(290) });
    assert_eq!((answer.age, house.calls()), (secs(10), 1));
}

#[tokio::test]
async fn nothing_is_stored_with_a_ttl_of_zero_or_over_the_size_limit() {
    let none = Policy {
        ttl: Duration::ZERO,
        ..calm()
    };
    let first = house(none).await;
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
    assert_eq!(
        first.service.backend_stats().await.expect("works").entries,
        0
    );

    let second = house(calm()).await;
    second.source.then_value(&"x".repeat(256 * 1024 + 1));
    let status = second.read().await.expect("answered").status;
    assert!(matches!(
        status,
        CacheStatus::Forwarded { stored: false, .. }
    ));
    assert_eq!(
        second.service.backend_stats().await.expect("works").entries,
        0
    );
}

#[tokio::test]
async fn trouble_of_the_backend_fails_no_read() {
    let house = house(calm()).await;
    house.backend.set_failing(true);
    for value in ["one", "two"] {
        house.source.then_value(value);
        let answer = house.read().await.expect("answered");
        assert_eq!(text(&answer), value);
        assert!(matches!(
            answer.status,
            CacheStatus::Forwarded { stored: false, .. }
        ));
    }
    house.backend.set_failing(false);
    house.source.then_value("three");
    house.read().await.expect("answered");
    assert!(matches!(
        house.read().await.expect("answered").status,
        CacheStatus::Hit { .. }
    ));
}

#[tokio::test]
async fn a_first_fetch_teaches_the_scope_it_is_filed_under() {
    let house = house(calm()).await;
    house.source.set_scope(None);
    let source = Arc::clone(&house.source);
    house.source.then(move |_| {
        let fetched = answer("one");
        source.set_scope(Some(Arc::clone(&fetched.scope)));
        Ok(fetched)
    });
    house.read().await.expect("answered");
    assert!(matches!(
        house.read().await.expect("answered").status,
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
    let house = house(short.clone()).await;
    house.source.then_value("one");
    house.read().await.expect("answered");
    house.service.set_policy(long).await;
    house.clock.advance(secs(300 + 5000));
    house.source.then_error(throttled());
    assert_eq!(
        text(&house.read().await.expect("the copy stands in")),
        "one"
    );

    house.service.set_policy(short).await;
    house.source.then_error(throttled());
    house.read().await.expect_err("the copy is dead");
    house
        .backend
        .sweep(Timeline::new(Arc::new(house.clock.clone())).now())
        .await
        .expect("swept");
    assert_eq!(
        house.service.backend_stats().await.expect("works").entries,
        0
    );
}

#[tokio::test]
async fn prefetch_loads_its_list_and_tries_again_what_fails() {
    let house = house(calm()).await;
    house.source.then_error(throttled());
    house.source.then_value("one");
    let prefetch = Prefetch::new(vec![secret_ref("s")]);
    assert!(!prefetch.counts().first_pass_is_over());
    let running = tokio::spawn(Arc::clone(&prefetch).run(Arc::clone(&house.service)));
    while prefetch.counts().failed == 0 {
        house.clock.advance(Duration::from_millis(10));
        tokio::task::yield_now().await;
    }
    assert!(prefetch.counts().first_pass_is_over());
    while !running.is_finished() {
        house.clock.advance(Duration::from_millis(100));
        tokio::task::yield_now().await;
    }
    running.await.expect("no panic");
    assert_eq!(prefetch.counts().done, 1);
    assert!(matches!(
        house.read().await.expect("answered").status,
        CacheStatus::Hit { .. }
    ));
    assert_eq!(house.calls(), 2);
}

#[tokio::test]
async fn an_answer_too_large_to_store_takes_the_place_of_the_copy_all_the_same() {
    let house = house(calm()).await;
    let large = "x".repeat(256 * 1024 + 1);
    for value in ["small", &large, &large] {
        house.source.then_value(value);
    }
    house.read().await.expect("answered");
    house.refresh().await.expect("answered");
    assert_eq!(text(&house.read().await.expect("answered")), large);
}

#[tokio::test]
async fn new_rules_drop_what_belongs_to_another_identity() {
    let house = house(calm()).await;
    let scope = |identity: &str| {
        Arc::new(kms_agent_core::Scope {
            endpoint: "kms.example".into(),
            identity: identity.into(),
        })
    };
    for identity in ["former", "present"] {
        let scope = scope(identity);
        house.source.set_scope(Some(Arc::clone(&scope)));
        house.source.then(move |_| {
            Ok(kms_agent_core::secret::Fetched {
                scope,
                ..answer(identity)
            })
        });
        house.read().await.expect("answered");
    }
    house
        .service
        .set_policy(Policy {
            max_stale: Duration::from_mins(1),
            ..calm()
        })
        .await;
    let all = NonZeroUsize::new(10).expect("not zero");
    let left = house.service.entries(None, all).await.expect("works");
    let left: Vec<_> = left.items.into_iter().map(|item| item.key.scope).collect();
    assert_eq!(left, [scope("present")]);
}
