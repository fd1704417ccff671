//! Purges.

use std::sync::Arc;

use kms_agent_cache::{CacheStatus, Demand};
use kms_agent_test_support::secret_ref;

use crate::harness::{calm, harness, text};

#[tokio::test]
async fn a_purge_drops_every_version_and_what_is_under_way_is_not_stored() {
    let harness = harness(calm()).await;
    let mut version = secret_ref("s");
    version.selector =
        kms_agent_core::VersionSelector::parse(None, Some("ACSPrevious")).expect("valid");
    for value in ["current", "previous", "other"] {
        harness.source.then_value(value);
    }
    harness.read().await.expect("answered");
    harness
        .service
        .read(&version, Demand::Any)
        .await
        .expect("answered");
    harness.read_named("other").await.expect("answered");

    harness.source.hold();
    harness.source.then_value("under way");
    let service = Arc::clone(&harness.service);
    let reader =
        tokio::spawn(async move { service.read(&secret_ref("s"), Demand::RefreshNow).await });
    harness.source.wait_for_calls(4).await;
    assert_eq!(
        harness
            .service
            .purge(&secret_ref("s").id)
            .await
            .expect("purged"),
        2
    );
    harness.source.release(1);
    let answer = reader.await.expect("no panic").expect("answered");
    assert_eq!(text(&answer), "under way");
    assert!(matches!(
        answer.status,
        CacheStatus::Forwarded { stored: false, .. }
    ));
    assert_eq!(harness.entries().await, 1);
    assert!(matches!(
        harness.read_named("other").await.expect("answered").status,
        CacheStatus::Hit { .. }
    ));
    assert_eq!(harness.service.purge_all().await.expect("purged"), 1);
    assert_eq!(harness.entries().await, 0);
}
