//! Listing and counting of entries, without their values.

use std::collections::BTreeSet;

use kms_agent_core::SecretKey;

use crate::Fixture;
use crate::clause::{present, put, scan, sweep};
use crate::sample::{NOW, capacity, context, entry, key};

/// Pages of any size list every entry once.
pub async fn a_scan_visits_everything_once(fixture: &impl Fixture) {
    let backend = fixture.open(context(100)).await;
    let expected: BTreeSet<SecretKey> = (0..25).map(|n| key(&format!("s{n}"))).collect();
    for key in &expected {
        backend.put(key, entry(b"x")).await.expect("put works");
    }
    for page in [1, 5, 25, 100] {
        let seen = scan(&backend, page).await;
        assert_eq!(seen.len(), expected.len());
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
    }
    let first = backend.scan(None, capacity(1)).await.expect("scan works");
    let item = first.items.first().expect("there is one");
    assert_eq!(&*item.version_id, "v1");
    assert_eq!(item.lifetime, entry(b"x").lifetime);
}

/// An empty cache lists nothing.
pub async fn a_scan_of_nothing_is_empty(fixture: &impl Fixture) {
    let backend = fixture.open(context(10)).await;
    let page = backend.scan(None, capacity(10)).await.expect("scan works");
    assert!(page.items.is_empty() && page.next.is_none());
}

/// A key's hits count the entries that `get` found, across replacement; removal resets the count.
pub async fn hits_are_counted_and_outlive_replacement(fixture: &impl Fixture) {
    let backend = fixture.open(context(10)).await;
    put(&backend, "a").await;
    present(&backend, &["a", "a", "b"]).await;
    put(&backend, "a").await;
    present(&backend, &["a"]).await;
    let page = backend.scan(None, capacity(10)).await.expect("scan works");
    assert_eq!(
        page.items.iter().map(|item| item.hits).collect::<Vec<_>>(),
        [3]
    );
    backend.remove(&key("a")).await.expect("remove works");
    put(&backend, "a").await;
    let page = backend.scan(None, capacity(10)).await.expect("scan works");
    assert_eq!(
        page.items.iter().map(|item| item.hits).collect::<Vec<_>>(),
        [0]
    );
}

/// `stats` reports the entries held and the capacity.
pub async fn stats_count_what_is_held(fixture: &impl Fixture) {
    let backend = fixture.open(context(10)).await;
    let before = backend.stats().await.expect("stats work");
    assert_eq!((before.entries, before.capacity), (0, 10));
    put(&backend, "a").await;
    put(&backend, "b").await;
    backend.remove(&key("a")).await.expect("remove works");
    sweep(&backend, NOW).await;
    assert_eq!(backend.stats().await.expect("stats work").entries, 1);
}
