//! The read path, driven from outside under a manual clock, with calls to the source counted.
#![expect(clippy::expect_used, reason = "a test that cannot go on panics")]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::answer::ForwardReason;
use kms_agent_core::metric::ReadMetrics;
use kms_agent_core::registry::BackendContext;
use kms_agent_core::source::{Purpose, Refusal};
use kms_agent_core::{
    Answer, CacheBackend, CacheStatus, Demand, Policy, Prefetch, SecretService, SourceError,
    SourceErrorKind, Timeline,
};
use kms_agent_test_support::{
    FaultyBackend, ManualClock, ScriptedSource, answer, secret_ref, throttled,
};

struct House {
    service: Arc<SecretService>,
    source: Arc<ScriptedSource>,
    backend: Arc<FaultyBackend>,
    clock: ManualClock,
}

async fn house(policy: Policy) -> House {
    let clock = ManualClock::default();
    let source = ScriptedSource::new();
    let capacity = NonZeroUsize::new(100).expect("not zero");
    let report = std::cell::RefCell::default();
    let raw = kms_agent_core::config::RawTable::default();
    let config = (kms_agent_backend_memory::FACTORY.configure)(
        &mut kms_agent_core::config::ConfigTable::root(raw, &report),
    );
    let context = BackendContext {
        capacity,
        clock: Arc::new(clock.clone()),
    };
    let backend = FaultyBackend::new(config.open(context).await.expect("it opens"));
    let service = SecretService::new(
        Arc::clone(&backend) as Arc<dyn CacheBackend>,
        Arc::clone(&source) as _,
        Timeline::new(Arc::new(clock.clone())),
        policy,
        capacity,
        ReadMetrics::register(&mut prometheus_client::registry::Registry::default()),
    );
    House {
        service,
        source,
        backend,
        clock,
    }
}

impl House {
    async fn read(&self) -> Result<Answer, Arc<SourceError>> {
        self.read_named("s").await
    }

    async fn read_named(&self, name: &str) -> Result<Answer, Arc<SourceError>> {
        self.service.read(&secret_ref(name), Demand::Any).await
    }

    async fn refresh(&self) -> Result<Answer, Arc<SourceError>> {
        self.service
            .read(&secret_ref("s"), Demand::RefreshNow)
            .await
    }

    fn calls(&self) -> usize {
        self.source.calls().len()
    }
}

/// No refresh ahead, so that each call is one a reader caused.
fn calm() -> Policy {
    Policy {
        refresh_ahead: false,
        ..Policy::default()
    }
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(answer.secret.answer.expose()).expect("text")
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn refused(kind: SourceErrorKind, code: &str) -> SourceError {
    SourceError::new(kind, "KMS refused").with_refusal(Refusal {
        status: 404,
        code: code.to_owned(),
        message: String::new(),
        request_id: None,
    })
}

const fn forwarded(reason: ForwardReason) -> CacheStatus {
    CacheStatus::Forwarded {
        reason,
        stored: true,
        collapsed: false,
    }
}

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
async fn an_expired_copy_stands_in_and_then_nobody_asks_for_a_second() {
    let house = house(calm()).await;
    house.source.then_value("one");
    house.source.then_error(throttled());
    house.read().await.expect("answered");
    house.clock.advance(secs(337));
    let stale = |forwarded, since| CacheStatus::Stale {
        forwarded,
        since: secs(since),
        detail: "KmsThrottled".to_owned(),
    };
    let answer = house.read().await.expect("answered");
    assert_eq!(
        (text(&answer), answer.status.clone()),
        ("one", stale(true, 37))
    );
    assert_eq!(answer.age, secs(337));
    for _ in 0..10 {
        assert_eq!(
            house.read().await.expect("answered").status,
            stale(false, 37)
        );
    }
    assert_eq!(house.calls(), 2);

    // A minute later a reader sets off a try in the background, and the one after it has the new value.
    house.source.then_value("two");
    house.clock.advance(secs(60));
    assert_eq!(
        house.read().await.expect("answered").status,
        stale(false, 97)
    );
    house.source.wait_for_calls(3).await;
    let fresh = loop {
        let answer = house.read().await.expect("answered");
        if matches!(answer.status, CacheStatus::Hit { .. }) {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(text(&fresh), "two");
    assert_eq!(house.calls(), 3);
}

#[tokio::test]
async fn a_reader_with_a_copy_waits_two_seconds_at_most() {
    let house = house(calm()).await;
    house.source.then_value("one");
    house.read().await.expect("answered");
    house.clock.advance(secs(301));
    house.source.hold();
    house.source.then_value("two");
    let service = Arc::clone(&house.service);
    let reader = tokio::spawn(async move { service.read(&secret_ref("s"), Demand::Any).await });
    house.source.wait_for_calls(2).await;
    while !reader.is_finished() {
        house.clock.advance(Duration::from_millis(100));
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
    house.source.release(1);
    while text(&house.read().await.expect("answered")) != "two" {
        tokio::task::yield_now().await;
    }
    assert_eq!(house.calls(), 2);
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
    house
        .source
        .then_error(refused(SourceErrorKind::Refused, "Forbidden.InDebt"));
    house.source.then_error(throttled());
    house.read().await.expect("answered");
    house.clock.advance(secs(300));
    assert_eq!(
        house.read().await.expect_err("refused").code(),
        "Forbidden.InDebt"
    );
    assert_eq!(
        house.read().await.expect_err("remembered").code(),
        "Forbidden.InDebt"
    );
    house.clock.advance(secs(5));
    assert_eq!(
        text(&house.read().await.expect("the copy stands in")),
        "one"
    );
    assert_eq!(house.calls(), 3);
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

/// Three secrets with copies that have just expired.
async fn three_expired(house: &House) {
    for name in ["a", "b", "c"] {
        house.source.then_value(name);
        house.read_named(name).await.expect("answered");
    }
    house.clock.advance(secs(300));
}

#[tokio::test]
async fn while_the_endpoint_fails_nobody_waits_and_one_probe_is_under_way() {
    let house = house(calm()).await;
    three_expired(&house).await;
    house.source.then_error(SourceError::new(
        SourceErrorKind::Unavailable,
        "no connection",
    ));
    let is_stale = |answer: &Answer, forwarded| matches!(&answer.status, CacheStatus::Stale { forwarded: f, .. } if *f == forwarded);
    assert!(is_stale(
        &house.read_named("a").await.expect("answered"),
        true
    ));
    for name in ["a", "b", "c"] {
        assert!(
            is_stale(&house.read_named(name).await.expect("answered"), false),
            "{name}"
        );
    }
    assert_eq!(house.calls(), 4);

    // Time for a probe: whoever comes first sends it, nobody else does.
    house.clock.advance(secs(1));
    house.source.hold();
    house.source.then_error(SourceError::new(
        SourceErrorKind::Unavailable,
        "no connection",
    ));
    for name in ["b", "c", "a", "b"] {
        assert!(
            is_stale(&house.read_named(name).await.expect("answered"), false),
            "{name}"
        );
    }
    house.source.wait_for_calls(5).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(house.calls(), 5);
    house.source.release(1);

    // Back again: the next probe's answer ends it for every key, the failed one included.
    house.source.then_value("b2");
    while house.calls() < 6 {
        house.clock.advance(Duration::from_millis(100));
        house.read_named("b").await.expect("answered");
        tokio::task::yield_now().await;
    }
    house.source.release(1);
    while text(&house.read_named("b").await.expect("answered")) != "b2" {
        tokio::task::yield_now().await;
    }
    house.source.then_value("c2");
    house.source.release(1);
    assert_eq!(
        text(&house.read_named("c").await.expect("answered")),
        "c2",
        "c was never failing by itself"
    );
}

#[tokio::test]
async fn a_failure_of_one_secret_is_not_held_against_the_others() {
    let house = house(calm()).await;
    three_expired(&house).await;
    let failure = || refused(SourceErrorKind::ServerFailure, "InternalFailure");
    house.source.then_error(failure());
    house.read_named("a").await.expect("the copy stands in");
    house.source.then_value("b2");
    assert_eq!(text(&house.read_named("b").await.expect("answered")), "b2");
    assert_eq!(house.calls(), 5);
}

#[tokio::test]
async fn a_purge_drops_every_version_and_what_is_under_way_is_not_stored() {
    let house = house(calm()).await;
    let mut version = secret_ref("s");
    version.selector =
        kms_agent_core::VersionSelector::parse(None, Some("ACSPrevious")).expect("valid");
    for value in ["current", "previous", "other"] {
        house.source.then_value(value);
    }
    house.read().await.expect("answered");
    house
        .service
        .read(&version, Demand::Any)
        .await
        .expect("answered");
    house.read_named("other").await.expect("answered");

    house.source.hold();
    house.source.then_value("under way");
    let service = Arc::clone(&house.service);
    let reader =
        tokio::spawn(async move { service.read(&secret_ref("s"), Demand::RefreshNow).await });
    house.source.wait_for_calls(4).await;
    assert_eq!(
        house
            .service
            .purge(&secret_ref("s").id)
            .await
            .expect("purged"),
        2
    );
    house.source.release(1);
    let answer = reader.await.expect("no panic").expect("answered");
    assert_eq!(text(&answer), "under way");
    assert!(matches!(
        answer.status,
        CacheStatus::Forwarded { stored: false, .. }
    ));
    assert_eq!(
        house.service.backend_stats().await.expect("works").entries,
        1
    );
    assert!(matches!(
        house.read_named("other").await.expect("answered").status,
        CacheStatus::Hit { .. }
    ));
    assert_eq!(house.service.purge_all().await.expect("purged"), 1);
    assert_eq!(
        house.service.backend_stats().await.expect("works").entries,
        0
    );
}

#[tokio::test]
async fn many_readers_of_one_slow_call_are_one_failure_and_concern_no_other_key() {
    let house = house(calm()).await;
    three_expired(&house).await;
    house.source.hold();
    house.source.then_value("a2");
    let readers: Vec<_> = (0..30)
        .map(|_| {
            let service = Arc::clone(&house.service);
            tokio::spawn(async move { service.read(&secret_ref("a"), Demand::Any).await })
        })
        .collect();
    house.source.wait_for_calls(4).await;
    while !readers.iter().all(tokio::task::JoinHandle::is_finished) {
        house.clock.advance(Duration::from_millis(100));
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
    house.source.then_value("b2");
    house.source.release(2);
    assert_eq!(text(&house.read_named("b").await.expect("answered")), "b2");
    while text(&house.read_named("a").await.expect("answered")) != "a2" {
        tokio::task::yield_now().await;
    }
    assert_eq!(house.calls(), 5);
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
