//! A wall clock that was set back between two processes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::config::{ConfigTable, Located, RawTable, RawValue};
use kms_agent_core::registry::BackendContext;
use kms_agent_core::{
    CacheEntry, Lifetime, Scope, Secret, SecretId, SecretKey, SecretRef, SecretValue, Timestamp,
    VersionSelector,
};
use kms_agent_test_support::ManualClock;
use zeroize::Zeroizing;

use super::setup;
use crate::harness::cloud::Cloud;

/// Leaves a store as an agent with the wall clock `wall` does.
async fn leave_store(folder: &Path, wall: Timestamp) {
    let path = |name: &str| Located {
        line: 1,
        value: RawValue::String(folder.join(name).display().to_string()),
    };
    let entries = BTreeMap::from([
        ("Path".to_owned(), path("cache/store.redb")),
        ("KeyFile".to_owned(), path("keys/store.key")),
    ]);
    let report = RefCell::default();
    let mut table = ConfigTable::root(RawTable { line: 1, entries }, &report);
    let config = (kms_agent_backend_redb::FACTORY.configure)(&mut table);
    let clock = ManualClock::default();
    clock.set_wall(wall);
    let context = BackendContext {
        capacity: NonZeroUsize::MIN,
        clock: Arc::new(clock),
        data_keys: None,
    };
    let backend = config.open(context).await.unwrap();
    let key = SecretKey {
        scope: Arc::new(Scope {
            endpoint: "kms.example".into(),
            identity: "identity".into(),
        }),
        secret: SecretRef {
            id: SecretId::parse("s").unwrap(),
            selector: VersionSelector::CURRENT,
        },
    };
    let entry = CacheEntry {
        secret: Secret {
            answer: SecretValue::new(Zeroizing::new(b"{}".to_vec())),
            version_id: "v1".into(),
            stages: ["ACSCurrent".into()].into(),
        },
        lifetime: Lifetime {
            fetched_at: wall,
            rotates_at: None,
            usable_until: wall.plus(Duration::from_hours(1)),
        },
    };
    // A sweep tells the store the time, as in the agent.
    backend.sweep(wall).await.unwrap();
    backend.put(&key, entry).await.unwrap();
    backend.close().await.unwrap();
}

#[test]
fn a_clock_behind_that_of_the_last_run_is_told_with_what_it_means() {
    let folder = tempfile::tempdir().unwrap();
    let ahead = Timestamp::parse_rfc3339("2100-01-01T00:00:00Z").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(leave_store(folder.path(), ahead));
    let cloud = Cloud::start();
    let (_, said) = setup(&cloud, folder.path()).start().stop();
    let line = said.lines().find(|line| line.contains("is behind"));
    let line = line.unwrap_or_else(|| panic!("nothing is said of it: {said}"));
    assert!(
        line.contains("WARN") && line.contains("2100-01-01"),
        "{line}"
    );
}
