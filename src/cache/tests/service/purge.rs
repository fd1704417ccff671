//! What a purge drops.

use std::sync::Arc;

use kms_agent_cache::{CacheStatus, Demand};
use kms_agent_test_support::secret_ref;

use crate::house::{calm, house, text};

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
