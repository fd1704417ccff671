//! Whether KMS can be asked, and whether an entry may stand in while it cannot.

use std::sync::Arc;

use kms_agent_cache::Policy;
use kms_agent_core::{Scope, SourceErrorKind};
use kms_agent_test_support::answer;

use crate::harness::{calm, harness, refused, secs};

#[tokio::test]
async fn one_probe_at_a_time_shows_whether_kms_answers() {
    let harness = harness(calm()).await;
    harness.source.then(|_| {
        Err(refused(
            SourceErrorKind::IdentityRefused,
            "InvalidAccessKeyId.NotFound",
        ))
    });
    assert!(!harness.service.reaches_kms());
    harness.service.probe(secs(5)).await;
    assert!(!harness.service.reaches_kms());
    assert!(harness.service.upstream().identity_refused);
    // Too early for another one.
    harness.service.probe(secs(5)).await;
    assert_eq!(harness.calls(), 1);

    harness.clock.advance(secs(60));
    harness.source.then(|_| {
        Err(refused(
            SourceErrorKind::Decision,
            "Forbidden.ResourceNotFound",
        ))
    });
    tokio::join!(
        harness.service.probe(secs(5)),
        harness.service.probe(secs(5))
    );
    assert!(harness.service.reaches_kms());
    assert_eq!(harness.calls(), 2);
}

#[tokio::test]
async fn only_an_entry_that_would_be_answered_counts() {
    let harness = harness(Policy {
        ttl: secs(10),
        max_stale: secs(100),
        ..calm()
    })
    .await;
    assert!(!harness.service.holds_servable().await);
    harness.source.then(|_| Ok(answer("value")));
    harness.read().await.unwrap();
    harness.clock.advance(secs(2));
    assert!(harness.service.holds_servable().await);

    // Expired, and then with a policy that serves no expired copies.
    harness.clock.advance(secs(20));
    assert!(harness.service.holds_servable().await);
    let strict = Policy {
        serve_stale: false,
        ..harness.service.policy().general.clone()
    };
    harness.service.set_policy(strict).await;
    harness.clock.advance(secs(2));
    assert!(!harness.service.holds_servable().await);

    // Of another identity.
    harness.service.set_policy(calm()).await;
    harness.source.set_scope(Some(Arc::new(Scope {
        endpoint: "kms.example".into(),
        identity: "another".into(),
    })));
    harness.clock.advance(secs(2));
    assert!(!harness.service.holds_servable().await);
}
