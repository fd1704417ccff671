//! Whether KMS can be asked, and whether an entry may stand in while it cannot.

use std::sync::Arc;

use kms_agent_cache::Policy;
use kms_agent_core::{Scope, SourceErrorKind};
use kms_agent_test_support::answer;

use crate::house::{calm, house, refused, secs};

#[tokio::test]
async fn one_probe_at_a_time_shows_whether_kms_answers() {
    let house = house(calm()).await;
    house.source.then(|_| {
        Err(refused(
            SourceErrorKind::IdentityRefused,
            "InvalidAccessKeyId.NotFound",
        ))
    });
    assert!(!house.service.reaches_kms());
    house.service.probe(secs(5)).await;
    assert!(!house.service.reaches_kms());
    assert!(house.service.upstream().identity_refused);
    // Too early for another one.
    house.service.probe(secs(5)).await;
    assert_eq!(house.calls(), 1);

    house.clock.advance(secs(60));
    house.source.then(|_| {
        Err(refused(
            SourceErrorKind::Decision,
            "Forbidden.ResourceNotFound",
        ))
    });
    tokio::join!(house.service.probe(secs(5)), house.service.probe(secs(5)));
    assert!(house.service.reaches_kms());
    assert_eq!(house.calls(), 2);
}

#[tokio::test]
async fn only_an_entry_that_would_be_answered_counts() {
    let house = house(Policy {
        ttl: secs(10),
        max_stale: secs(100),
        ..calm()
    })
    .await;
    assert!(!house.service.holds_servable().await);
    house.source.then(|_| Ok(answer("value")));
    house.read().await.unwrap();
    house.clock.advance(secs(2));
    assert!(house.service.holds_servable().await);

    // Expired, and then with a policy that serves no expired copies.
    house.clock.advance(secs(20));
    assert!(house.service.holds_servable().await);
    let strict = Policy {
        serve_stale: false,
        ..(*house.service.policy()).clone()
    };
    house.service.set_policy(strict).await;
    house.clock.advance(secs(2));
    assert!(!house.service.holds_servable().await);

    // Of another identity.
    house.service.set_policy(calm()).await;
    house.source.set_scope(Some(Arc::new(Scope {
        endpoint: "kms.example".into(),
        identity: "another".into(),
    })));
    house.clock.advance(secs(2));
    assert!(!house.service.holds_servable().await);
}
