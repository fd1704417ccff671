//! Removed entries are gone, and wiped.

use std::time::Duration;

use crate::Fixture;
use crate::clause::{present, put, scan, sweep, value};
use crate::sample::{HOUR, NOW, context, entry, entry_until, key};

/// A removed entry is absent from `get` and `scan`.
pub async fn what_was_removed_is_gone(fixture: &impl Fixture) {
    let backend = fixture.open(context(10)).await;
    put(&backend, "a").await;
    put(&backend, "b").await;
    backend.remove(&key("a")).await.expect("remove works");
    assert_eq!(present(&backend, &["a", "b"]).await, [false, true]);
    assert_eq!(scan(&backend, 10).await, [key("b")]);
    put(&backend, "a").await;
    assert_eq!(present(&backend, &["a", "b"]).await, [true, true]);
}

/// Removing twice is not an error.
pub async fn removing_an_absent_key_succeeds(fixture: &impl Fixture) {
    let backend = fixture.open(context(10)).await;
    backend
        .remove(&key("a"))
        .await
        .expect("removing nothing works");
}

/// After `clear` nothing is found, and later entries are.
pub async fn clearing_drops_everything_and_the_cache_goes_on(fixture: &impl Fixture) {
    let backend = fixture.open(context(300)).await;
    for n in 0..300 {
        put(&backend, &format!("s{n}")).await;
    }
    backend.clear().await.expect("clear works");
    assert!(scan(&backend, 1000).await.is_empty());
    assert_eq!(backend.stats().await.expect("stats work").entries, 0);
    assert_eq!(value(&backend, &key("s7"), NOW).await, None);
    put(&backend, "s7").await;
    assert_eq!(scan(&backend, 1000).await, [key("s7")]);
}

/// After the next sweep the caller holds the last handle of a value that was replaced, removed, evicted, dead
/// or cleared, so that dropping the handle wipes the bytes.
pub async fn a_value_that_left_is_let_go_by_the_next_sweep(fixture: &impl Fixture) {
    let backend = fixture.open(context(2)).await;
    let mut handles = Vec::new();
    let mut hold = |what, entry: &kms_agent_core::CacheEntry| {
        handles.push((what, entry.secret.answer.clone()));
    };

    for (what, until) in [
        ("replaced", HOUR),
        ("removed", HOUR),
        ("dead", Duration::from_secs(1)),
    ] {
        let given = entry_until(b"x", NOW.plus(until));
        hold(what, &given);
        backend.put(&key("a"), given).await.expect("put works");
        match what {
            "replaced" => put(&backend, "a").await,
            "removed" => backend.remove(&key("a")).await.expect("remove works"),
            _ => sweep(&backend, NOW.plus(Duration::from_secs(1))).await,
        }
    }
    for name in ["a", "b", "c", "d", "e", "f"] {
        let given = entry(b"x");
        if name < "e" {
            hold("evicted", &given);
        }
        backend.put(&key(name), given).await.expect("put works");
    }
    sweep(&backend, NOW).await;
    let given = entry(b"x");
    hold("cleared", &given);
    backend.put(&key("z"), given).await.expect("put works");
    backend.clear().await.expect("clear works");
    sweep(&backend, NOW).await;
    for (what, handle) in handles {
        assert_eq!(handle.holders(), 1, "a {what} value is still held");
    }
}
