use std::collections::VecDeque;
use std::task::Poll;

use async_trait::async_trait;
use kms_agent_core::Timestamp;

use super::*;
use crate::gateway::Credential;
use crate::testing::{ManualClock, WALL, manual_clock, settle};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// A provider that gives what it is told to, in order, and panics when it is asked once more.
#[derive(Debug)]
struct ScriptedProvider {
    script: Mutex<VecDeque<Result<Obtained, CredentialError>>>,
    /// Identity that its configuration names.
    identity: Arc<Mutex<Option<Arc<str>>>>,
    /// Rung when its configuration changes.
    change: Arc<Notify>,
}

#[async_trait]
impl CredentialProvider for ScriptedProvider {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn identity(&self) -> Option<Arc<str>> {
        self.identity.lock().expect("not poisoned").clone()
    }

    fn renewable(&self) -> bool {
        true
    }

    async fn obtain(&self) -> Result<Obtained, CredentialError> {
        // Other callers get the chance to ask.
        settle().await;
        let next = self.script.lock().expect("not poisoned").pop_front();
        next.expect("nobody expected another call")
    }

    async fn changed(&self) {
        self.change.notified().await;
    }
}

fn provider(script: Vec<Result<Obtained, CredentialError>>) -> ScriptedProvider {
    ScriptedProvider {
        script: Mutex::new(script.into()),
        identity: Arc::default(),
        change: Arc::default(),
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "it is one of two outcomes of a script"
)]
fn issued(id: &str, issued_at: Timestamp, life: Duration) -> Result<Obtained, CredentialError> {
    Ok(Obtained {
        credential: Credential::new(id, "secret")
            .with_security_token(id)
            .with_expiry(issued_at.plus(life)),
        identity: "role".into(),
        issuer_time: Some(issued_at),
    })
}

fn down() -> Result<Obtained, CredentialError> {
    Err(CredentialError::new("out of order"))
}

fn cached(
    clock: &Arc<ManualClock>,
    script: Vec<Result<Obtained, CredentialError>>,
) -> Arc<CachedCredential> {
    keeping(clock, provider(script))
}

fn keeping(clock: &Arc<ManualClock>, provider: ScriptedProvider) -> Arc<CachedCredential> {
    let scope = PublishedScope::default();
    scope.set_endpoint("kms.cn-a.aliyuncs.com");
    Arc::new(CachedCredential::new(
        Box::new(provider),
        Arc::clone(clock) as _,
        Gauge::default(),
        Arc::new(scope),
    ))
}

fn published_identity(cached: &CachedCredential) -> Option<String> {
    let scope = cached.scope.load()?;
    Some(scope.identity.clone().into())
}

fn id(lease: &Lease) -> &str {
    lease.credential.access_key_id()
}

fn maintained(cached: &Arc<CachedCredential>) -> tokio::task::JoinHandle<()> {
    let cached = Arc::clone(cached);
    tokio::spawn(async move { cached.maintain().await })
}

fn left(cached: &CachedCredential) -> String {
    format!("{:?}", cached.provider)
}

#[tokio::test]
async fn many_readers_share_one_call_to_the_provider() {
    let clock = manual_clock();
    let cached = cached(&clock, vec![issued("a", WALL, HOUR)]);
    assert_eq!(published_identity(&cached), None);
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let cached = Arc::clone(&cached);
            tokio::spawn(async move { cached.current().await.map(|lease| id(&lease).to_owned()) })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.expect("no panic").as_deref(), Ok("a"));
    }
    assert_eq!(published_identity(&cached).as_deref(), Some("role"));
    assert_eq!(
        cached.expiry.get(),
        WALL.plus(HOUR).as_millis().div_euclid(1000)
    );
    let state = cached.state();
    assert!(state.usable);
    assert_eq!(state.expires_at, Some(WALL.plus(HOUR)));
}

#[tokio::test]
async fn readers_share_a_failure_too_and_it_holds_for_a_moment() {
    let clock = manual_clock();
    let cached = cached(&clock, vec![down(), issued("a", WALL, HOUR)]);
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let cached = Arc::clone(&cached);
            tokio::spawn(async move { cached.current().await.is_err() })
        })
        .collect();
    for reader in readers {
        assert!(reader.await.expect("no panic"));
    }
    assert!(cached.current().await.is_err());
    assert!(!cached.state().usable);
    clock.advance(SECOND);
    assert!(cached.current().await.is_ok());
}

#[tokio::test]
async fn renewal_comes_at_the_later_of_a_quarter_of_an_hour_before_and_three_quarters_through() {
    for (life, renewed_after) in [
        (HOUR, 45 * MINUTE),
        (6 * HOUR, 345 * MINUTE),
        (20 * MINUTE, 15 * MINUTE),
    ] {
        let clock = manual_clock();
        let later = WALL.plus(renewed_after);
        let cached = cached(
            &clock,
            vec![issued("a", WALL, life), issued("b", later, life)],
        );
        let task = maintained(&cached);
        settle().await;
        settle().await;
        clock.advance(renewed_after.saturating_sub(MILLISECOND));
        settle().await;
        settle().await;
        assert_eq!(id(&cached.current().await.expect("usable")), "a");
        clock.advance(MILLISECOND);
        settle().await;
        settle().await;
        assert_eq!(id(&cached.current().await.expect("usable")), "b");
        task.abort();
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_renewed_are_used_until_they_expire() {
    let clock = manual_clock();
    let cached = cached(
        &clock,
        vec![
            issued("a", WALL, HOUR),
            down(),
            down(),
            issued("b", WALL.plus(HOUR), HOUR),
        ],
    );
    assert!(cached.current().await.is_ok());
    let task = maintained(&cached);
    settle().await;
    clock.advance(45 * MINUTE);
    settle().await;
    settle().await;
    assert_eq!(id(&cached.current().await.expect("still usable")), "a");
    clock.advance(898 * SECOND);
    settle().await;
    settle().await;
    assert_eq!(id(&cached.current().await.expect("still usable")), "a");
    clock.advance(SECOND);
    assert!(!cached.state().usable);
    // Either the background task or this reader asks once the pause is over.
    clock.advance(MINUTE);
    assert_eq!(id(&cached.current().await.expect("renewed")), "b");
    task.abort();
}

#[tokio::test]
async fn a_wall_clock_that_is_wrong_does_not_shorten_a_life() {
    let clock = manual_clock();
    // By the issuer's clock this machine is two hours ahead.
    let issued_at = WALL.minus(2 * HOUR);
    let cached = cached(&clock, vec![issued("a", issued_at, HOUR)]);
    assert!(cached.current().await.is_ok());
    clock.advance(3598 * SECOND);
    assert!(cached.current().await.is_ok());
}

#[tokio::test]
async fn credentials_that_have_expired_on_arrival_are_a_failure() {
    let clock = manual_clock();
    let mut late = issued("a", WALL, Duration::ZERO).expect("issued");
    late.issuer_time = Some(WALL.plus(SECOND));
    let cached = cached(&clock, vec![Ok(late)]);
    let error = cached.current().await.expect_err("expired");
    assert!(error.to_string().contains("expired already"));
}

#[tokio::test]
async fn refused_credentials_are_replaced_at_most_once_a_minute() {
    let clock = manual_clock();
    let cached = cached(
        &clock,
        vec![
            issued("a", WALL, HOUR),
            issued("b", WALL, HOUR),
            issued("c", WALL, HOUR),
        ],
    );
    let a = cached.current().await.expect("usable");
    let b = cached.replace(&a).await.expect("others");
    assert_eq!(id(&b), "b");
    // Who still held the old ones is given the new ones without asking.
    assert_eq!(id(&cached.replace(&a).await.expect("others")), "b");
    assert!(cached.replace(&b).await.is_none());
    clock.advance(MINUTE);
    assert_eq!(id(&cached.replace(&b).await.expect("others")), "c");
}

#[tokio::test]
async fn a_replacement_that_is_the_same_is_none() {
    let clock = manual_clock();
    let cached = cached(
        &clock,
        vec![issued("a", WALL, HOUR), issued("a", WALL, HOUR)],
    );
    let a = cached.current().await.expect("usable");
    assert!(cached.replace(&a).await.is_none());
    assert!(left(&cached).contains("[]"));
}

#[tokio::test]
async fn dates_cut_to_the_second_may_shorten_a_life_by_a_second() {
    for (life, usable, renewed_after) in [
        (Duration::ZERO, SECOND / 4, SECOND / 4),
        (SECOND, SECOND / 2, SECOND * 3 / 8),
        (2 * SECOND, SECOND, SECOND * 3 / 4),
        (3 * SECOND, 2 * SECOND, SECOND * 3 / 2),
        (HOUR, HOUR.saturating_sub(SECOND), 45 * MINUTE),
    ] {
        let clock = manual_clock();
        let cached = cached(&clock, vec![issued("a", WALL, life)]);
        assert!(cached.current().await.is_ok());
        let renewal = cached.next_renewal().expect("it ends");
        assert_eq!(renewal.saturating_sub(clock.boot()), renewed_after);
        clock.advance(usable.saturating_sub(MILLISECOND));
        assert!(cached.state().usable, "{life:?}");
        clock.advance(MILLISECOND);
        assert!(!cached.state().usable, "{life:?}");
    }
}

#[tokio::test]
async fn a_renewal_that_was_due_anyway_is_not_counted_as_forced() {
    let clock = manual_clock();
    let cached = cached(
        &clock,
        ["a", "b", "c", "d"]
            .map(|id| issued(id, WALL, 4 * SECOND))
            .into(),
    );
    let mut lease = cached.current().await.expect("usable");
    for next in ["b", "c", "d"] {
        clock.advance(3 * SECOND);
        lease = cached.replace(&lease).await.expect("others");
        assert_eq!(id(&lease), next);
    }
}

#[tokio::test]
async fn credentials_that_may_have_ended_are_replaced_as_often_as_kms_refuses_them() {
    let clock = manual_clock();
    let cached = cached(
        &clock,
        ["a", "b", "c"].map(|id| issued(id, WALL, SECOND)).into(),
    );
    let mut lease = cached.current().await.expect("usable");
    for next in ["b", "c"] {
        lease = cached.replace(&lease).await.expect("others");
        assert_eq!(id(&lease), next);
    }
}

#[tokio::test]
async fn a_changed_source_is_asked_again_even_for_static_credentials() {
    let clock = manual_clock();
    let fixed = |id, identity: &str| {
        Ok(Obtained {
            credential: Credential::new(id, "secret"),
            identity: identity.into(),
            issuer_time: None,
        })
    };
    let provider = provider(vec![fixed("a", "a"), down(), fixed("b", "b"), down()]);
    let (change, identity) = (Arc::clone(&provider.change), Arc::clone(&provider.identity));
    let cached = keeping(&clock, provider);
    let task = maintained(&cached);
    let change = async || {
        settle().await;
        change.notify_one();
        settle().await;
        settle().await;
    };
    change().await;
    assert_eq!(id(&cached.current().await.expect("kept meanwhile")), "a");
    change().await;
    assert_eq!(id(&cached.current().await.expect("changed")), "b");

    // Once it is clear that the agent is to be somebody else, it no longer is who it was.
    *identity.lock().expect("not poisoned") = Some("c".into());
    change().await;
    assert!(cached.current().await.is_err());
    assert_eq!(published_identity(&cached).as_deref(), Some("c"));
    task.abort();
}

#[tokio::test]
async fn the_identity_is_published_while_the_provider_is_asked_and_outlives_the_credentials() {
    let clock = manual_clock();
    let provider = provider(vec![issued("a", WALL, HOUR), down()]);
    let identity = Arc::clone(&provider.identity);
    let cached = keeping(&clock, provider);
    *identity.lock().expect("not poisoned") = Some("as the file says".into());
    assert!(
        is_pending_when_dropped(cached.current()).await,
        "the provider answered at once"
    );
    assert_eq!(
        published_identity(&cached).as_deref(),
        Some("as the file says")
    );

    *identity.lock().expect("not poisoned") = None;
    cached.current().await.expect("issued");
    assert_eq!(published_identity(&cached).as_deref(), Some("role"));
    clock.advance(2 * HOUR);
    assert!(cached.current().await.is_err());
    assert_eq!(published_identity(&cached).as_deref(), Some("role"));
}

/// Polls `future` once and drops it. Returns whether it was still waiting.
async fn is_pending_when_dropped<T>(future: impl Future<Output = T>) -> bool {
    let mut future = std::pin::pin!(future);
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}
