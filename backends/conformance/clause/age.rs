//! Expired entries are returned, dead ones are not.

use std::time::Duration;

use crate::Fixture;
use crate::clause::{scan, sweep, value};
use crate::sample::{HOUR, NOW, context, entry, entry_until, key};

/// `usable_until` is the bound, to the millisecond, and the caller's `now` the only clock.
pub async fn an_expired_entry_is_returned_and_a_dead_one_never(fixture: &impl Fixture) {
    let backend = fixture.open(context(10)).await;
    let until = NOW.plus(HOUR);
    backend
        .put(&key("a"), entry_until(b"a", until))
        .await
        .expect("put works");
    let last = until.minus(Duration::from_millis(1));
    assert!(value(&backend, &key("a"), last).await.is_some());
    assert_eq!(value(&backend, &key("a"), until).await, None);
    assert_eq!(value(&backend, &key("a"), until.plus(HOUR)).await, None);
}

/// A sweep removes dead entries and keeps expired ones.
pub async fn a_sweep_drops_the_dead_and_only_them(fixture: &impl Fixture) {
    let backend = fixture.open(context(100)).await;
    for n in 0..40_u64 {
        let until = NOW.plus(Duration::from_secs(n));
        backend
            .put(&key(&format!("s{n}")), entry_until(b"x", until))
            .await
            .expect("put works");
    }
    sweep(&backend, NOW.plus(Duration::from_secs(9))).await;
    assert_eq!(backend.stats().await.expect("stats work").entries, 30);
    assert_eq!(scan(&backend, 100).await.len(), 30);
    sweep(&backend, NOW.plus(HOUR)).await;
    assert_eq!(backend.stats().await.expect("stats work").entries, 0);
}

/// The deadline of a replaced entry does not apply to its replacement.
pub async fn a_longer_life_by_replacement_survives_the_old_deadline(fixture: &impl Fixture) {
    let backend = fixture.open(context(10)).await;
    let soon = NOW.plus(Duration::from_secs(1));
    backend
        .put(&key("a"), entry_until(b"old", soon))
        .await
        .expect("put works");
    backend
        .put(&key("a"), entry(b"new"))
        .await
        .expect("put works");
    sweep(&backend, soon).await;
    assert_eq!(
        value(&backend, &key("a"), soon).await,
        Some(b"new".to_vec())
    );
}
