mod bench;

use kms_agent_core::Timestamp;
use kms_agent_core::source::SourceErrorKind;

use self::bench::{Bench, KMS, SECOND, SECRET, STS, issued, kms, lost, read, refusal, sts};
use super::*;
use crate::http::{HttpError, HttpErrorKind, Method};
use crate::testing::{Script, WALL, answer, settle, with_header};

#[tokio::test]
async fn a_secret_is_answered_byte_for_byte_with_all_that_is_known_of_it() {
    let bench = Bench::new(kms(vec![answer(200, SECRET)]));
    let fetched = bench.fetch().await.expect("a secret");
    assert_eq!(fetched.secret.answer.expose(), SECRET.as_bytes());
    assert_eq!(&*fetched.secret.version_id, "v1");
    assert_eq!(*fetched.secret.stages, ["ACSCurrent".into()]);
    assert_eq!(
        fetched.rotates_at,
        Timestamp::parse_rfc3339("2026-02-01T00:00:00Z")
    );
    assert_eq!(&*fetched.scope.endpoint, "kms.cn-hangzhou.aliyuncs.com");
    assert_eq!(&*fetched.scope.identity, "LTAI");
    assert!(!format!("{fetched:?}").contains("hunter2"));

    let header = |name| bench.kms.sent_header(0, name);
    assert_eq!(
        header("host").as_deref(),
        Some("kms.cn-hangzhou.aliyuncs.com")
    );
    assert_eq!(
        header("x-acs-date").as_deref(),
        Some("2026-01-02T03:04:05Z")
    );
    assert_eq!(header("x-acs-action").as_deref(), Some("GetSecretValue"));
    let authorization = header("authorization").expect("a signature");
    assert!(authorization.starts_with("ACS3-HMAC-SHA256 Credential=LTAI,SignedHeaders=host;"));
}

#[tokio::test]
async fn the_scope_is_known_before_anything_was_asked() {
    let bench = Bench::new(Script::new());
    let source = bench.source();
    let scope = source.scope().expect("a scope");
    assert_eq!(&*scope.endpoint, "kms.cn-hangzhou.aliyuncs.com");
    assert_eq!(&*scope.identity, "LTAI");
    assert_eq!(source.region().as_deref(), Some("cn-hangzhou"));
    let state = source.credentials();
    assert_eq!(state.provider.as_deref(), Some("environment"));
    assert!(!state.usable);
    assert!(!format!("{source:?}").contains("s3cret"));
}

#[tokio::test]
async fn transient_failures_are_retried_with_a_new_signature() {
    for failure in [
        lost(),
        Err(HttpError::new(HttpErrorKind::Timeout, "5 s")),
        refusal(429, "Rejected.Throttling"),
        refusal(503, "ServiceUnavailableTemporary"),
        answer(502, "<html>bad gateway</html>"),
        answer(200, "{}"),
    ] {
        let bench = Bench::new(kms(vec![failure, answer(200, SECRET)]));
        assert!(bench.fetch().await.is_ok());
        let nonce = |index| bench.kms.sent_header(index, "x-acs-signature-nonce");
        assert_ne!(nonce(0), nonce(1));
        assert_ne!(
            bench.kms.sent_header(0, "authorization"),
            bench.kms.sent_header(1, "authorization")
        );
    }
}

#[tokio::test]
async fn attempts_end_at_the_configured_number() {
    for (attempts, sent) in [(1, 1), (3, 3)] {
        let script = kms((0..sent).map(|_| refusal(500, "InternalFailure")).collect());
        let bench = Bench::new(script).with_kms(|kms| {
            kms.max_attempts = std::num::NonZeroU32::new(attempts).expect("not zero");
        });
        let error = bench.fetch().await.expect_err("three failures");
        assert_eq!(error.kind(), SourceErrorKind::ServerFailure);
        assert_eq!(bench.kms.calls(), sent);
    }
}

#[tokio::test]
async fn a_decision_or_refusal_is_not_questioned() {
    for (status, code, kind) in [
        (404, "Forbidden.ResourceNotFound", SourceErrorKind::Decision),
        (400, "InvalidParameter", SourceErrorKind::Refused),
    ] {
        let bench = Bench::new(kms(vec![refusal(status, code)]));
        let error = bench.fetch().await.expect_err("refused");
        assert_eq!(error.kind(), kind);
        let refusal = error.refusal().expect("what KMS said");
        assert_eq!((refusal.status, &*refusal.code), (status, code));
        assert_eq!(refusal.request_id.as_deref(), Some("r-2"));
    }
}

#[tokio::test]
async fn a_pause_that_kms_asks_for_is_kept_where_it_fits_and_passed_on_where_it_does_not() {
    let throttled = |pause| with_header(refusal(429, "Throttling"), "x-acs-retry-after", pause);
    let bench = Bench::new(kms(vec![throttled("4000"), answer(200, SECRET)]));
    let began_at = bench.clock.boot();
    assert!(bench.fetch().await.is_ok());
    assert!(bench.clock.boot() >= began_at + 4 * SECOND);

    let bench = Bench::new(kms(vec![throttled("10000")]));
    let error = bench.fetch().await.expect_err("throttled");
    assert_eq!(error.kind(), SourceErrorKind::Throttled);
    assert_eq!(error.retry_after(), Some(10 * SECOND));
}

#[tokio::test]
async fn ten_seconds_after_the_reader_came_it_is_over() {
    let bench = Bench::new(Script::new().expect_in_vain(Method::Post, KMS));
    let reader = bench.begin();
    settle().await;
    bench.clock.advance(Duration::from_millis(9_999));
    settle().await;
    assert!(!reader.is_finished());
    bench.clock.advance(Duration::from_millis(1));
    let error = reader.await.expect("no panic").expect_err("no answer");
    assert_eq!(error.kind(), SourceErrorKind::TimedOut);
}

#[tokio::test]
async fn the_last_failure_is_the_error_at_the_deadline() {
    let script = Script::new()
        .expect(Method::Post, KMS, refusal(429, "Throttling.User"))
        .expect_in_vain(Method::Post, KMS);
    let error = Bench::new(script).fetch().await.expect_err("no answer");
    assert_eq!(error.kind(), SourceErrorKind::Throttled);
}

#[tokio::test]
async fn a_reader_who_came_long_ago_gets_only_what_time_is_left() {
    let bench = Bench::new(Script::new().expect_in_vain(Method::Post, KMS));
    let reader = read(
        bench.source(),
        bench.clock.boot().saturating_sub(9 * SECOND),
    );
    settle().await;
    bench.clock.advance(SECOND);
    let error = reader.await.expect("no panic").expect_err("no answer");
    assert_eq!(error.kind(), SourceErrorKind::TimedOut);
}

#[tokio::test]
async fn a_clock_that_is_off_is_made_up_for_once_by_that_of_kms() {
    for code in ["InvalidTimeStamp.Expired", "IllegalTimestamp"] {
        let skewed = || with_header(refusal(400, code), "date", "Fri, 02 Jan 2026 05:04:05 GMT");
        let bench = Bench::new(kms(vec![skewed(), answer(200, SECRET)]));
        assert!(bench.fetch().await.is_ok());
        assert_eq!(
            bench.kms.sent_header(1, "x-acs-date").as_deref(),
            Some("2026-01-02T05:04:05Z")
        );

        let bench = Bench::new(kms(vec![skewed(), skewed()]));
        let error = bench.fetch().await.expect_err("still off");
        assert_eq!(error.kind(), SourceErrorKind::ClockSkew);
    }
    // Without a date there is nothing to go by.
    let bench = Bench::new(kms(vec![refusal(400, "IllegalTimestamp")]));
    let error = bench.fetch().await.expect_err("off");
    assert_eq!(error.kind(), SourceErrorKind::ClockSkew);
}

#[tokio::test]
async fn refused_credentials_are_renewed_once_and_the_call_is_made_again() {
    let bench = Bench::new(kms(vec![
        refusal(404, "InvalidAccessKeyId.NotFound"),
        answer(200, SECRET),
    ]))
    .with_role(sts(vec![issued("STS.a"), issued("STS.b")]));
    let fetched = bench.fetch().await.expect("a secret");
    assert_eq!(&*fetched.scope.identity, "acs:ram::1:role/agent");
    let token = |index| bench.kms.sent_header(index, "x-acs-security-token");
    assert_eq!(token(0).as_deref(), Some("t-STS.a"));
    assert_eq!(token(1).as_deref(), Some("t-STS.b"));
}

#[tokio::test]
async fn a_refused_identity_is_reported_without_the_message_of_kms() {
    let refused = || refusal(403, "Forbidden.AccessKey");
    let bench = Bench::new(kms(vec![refused(), refused()]))
        .with_role(sts(vec![issued("STS.a"), issued("STS.b")]));
    let error = bench.fetch().await.expect_err("refused");
    assert_eq!(error.kind(), SourceErrorKind::IdentityRefused);
    assert_eq!(error.code(), "Forbidden.AccessKey");
    assert_eq!(error.refusal().map(|refusal| &*refusal.message), Some(""));

    // A static key cannot be renewed, so nothing is tried again.
    let error = Bench::new(kms(vec![refused()])).fetch().await;
    let error = error.expect_err("refused");
    assert_eq!(error.kind(), SourceErrorKind::IdentityRefused);
}

#[tokio::test]
async fn a_new_signature_does_not_count_as_a_retry() {
    let skewed = with_header(
        refusal(400, "IllegalTimestamp"),
        "date",
        "Fri, 02 Jan 2026 05:04:05 GMT",
    );
    let bench = Bench::new(kms(vec![
        refusal(400, "InvalidSecurityToken.Expired"),
        skewed,
        answer(200, SECRET),
    ]))
    .with_role(sts(vec![issued("STS.a"), issued("STS.b")]))
    .with_kms(|kms| kms.max_attempts = std::num::NonZeroU32::MIN);
    assert!(bench.fetch().await.is_ok());
}

#[tokio::test]
async fn without_credentials_kms_is_not_asked() {
    let refused = || refusal(400, "EntityNotExist.Role");
    let bench = Bench::new(Script::new()).with_role(sts(vec![refused(), refused()]));
    let error = bench.fetch().await.expect_err("no credentials");
    assert_eq!(error.kind(), SourceErrorKind::NoCredentials);
    assert!(error.report().contains("EntityNotExist.Role"));
}

#[tokio::test]
async fn credentials_that_come_at_the_second_try_fail_no_reader() {
    let bench =
        Bench::new(kms(vec![answer(200, SECRET)])).with_role(sts(vec![lost(), issued("STS.a")]));
    assert!(bench.fetch().await.is_ok());
}

#[tokio::test]
async fn a_call_on_a_closed_connection_is_repeated_once_and_does_not_count_as_a_retry() {
    let stale = || Err(HttpError::new(HttpErrorKind::Stale, "reset"));
    let once = |kms: &mut crate::settings::KmsSettings| {
        kms.max_attempts = std::num::NonZeroU32::MIN;
    };
    let bench = Bench::new(kms(vec![stale(), answer(200, SECRET)])).with_kms(once);
    assert!(bench.fetch().await.is_ok());
    let nonce = |index| bench.kms.sent_header(index, "x-acs-signature-nonce");
    assert_ne!(nonce(0), nonce(1));

    let bench = Bench::new(kms(vec![stale(), stale()])).with_kms(once);
    let error = bench.fetch().await.expect_err("cut twice");
    assert_eq!(error.kind(), SourceErrorKind::Unavailable);
}

#[tokio::test]
async fn missing_credentials_are_the_error_at_the_deadline() {
    let bench =
        Bench::new(Script::new()).with_role(Script::new().expect_in_vain(Method::Post, STS));
    let error = bench.fetch().await.expect_err("no credentials");
    assert_eq!(error.kind(), SourceErrorKind::NoCredentials);
}

#[tokio::test]
async fn a_budget_that_is_spent_makes_readers_wait_their_turn() {
    let bench = Bench::new(kms(vec![answer(200, SECRET), answer(200, SECRET)]))
        .with_kms(|kms| kms.max_requests_per_second = std::num::NonZeroU32::new(1));
    let source = bench.source();
    let one = || read(Arc::clone(&source), bench.clock.boot());
    assert!(one().await.expect("no panic").is_ok());
    let second = one();
    settle().await;
    assert!(!second.is_finished());
    bench.clock.advance(SECOND);
    assert!(second.await.expect("no panic").is_ok());
}

#[tokio::test]
async fn a_turn_that_comes_too_late_for_an_answer_is_none() {
    let bench = Bench::new(kms(vec![answer(200, SECRET)]))
        .with_kms(|kms| kms.max_requests_per_second = std::num::NonZeroU32::new(1));
    let source = bench.source();
    let now = bench.clock.boot();
    assert!(
        read(Arc::clone(&source), now)
            .await
            .expect("no panic")
            .is_ok()
    );
    // The next turn comes in a second, which is just when this reader's time is over.
    let late = read(source, now.saturating_sub(9 * SECOND));
    let error = late.await.expect("no panic").expect_err("no turn");
    assert_eq!(error.kind(), SourceErrorKind::BudgetSpent);
}

#[tokio::test]
async fn a_reader_waits_for_the_scope_but_not_for_ever() {
    let silent = Script::new().expect_in_vain(Method::Post, STS);
    let bench = Bench::new(Script::new()).with_role(Arc::clone(&silent));
    let source = bench.source();
    let learning = tokio::spawn({
        let (source, now) = (Arc::clone(&source), bench.clock.boot());
        async move { source.learn_scope(now).await }
    });
    while silent.calls() == 0 {
        tokio::task::yield_now().await;
    }
    bench.clock.advance(Duration::from_millis(9_999));
    settle().await;
    assert!(!learning.is_finished());
    bench.clock.advance(Duration::from_millis(1));
    learning.await.expect("no panic");
}

#[tokio::test]
async fn credentials_are_got_without_readers() {
    let bench = Bench::new(Script::new()).with_role(sts(vec![issued("STS.a")]));
    let source = bench.source();
    let maintained = tokio::spawn({
        let source = Arc::clone(&source);
        async move { source.maintain().await }
    });
    while !source.credentials().usable {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        source.credentials().expires_at,
        Some(WALL.plus(Duration::from_hours(1)))
    );
    maintained.abort();
}
