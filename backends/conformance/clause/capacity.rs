//! How much is held, and what goes first.

use crate::Fixture;
use crate::clause::{present, put, scan, sweep};
use crate::sample::{NOW, context};

/// However many are put, at most the capacity is held after a sweep.
pub async fn capacity_holds_after_a_sweep(fixture: &impl Fixture) {
    let backend = fixture.open(context(50)).await;
    for n in 0..500 {
        put(&backend, &format!("s{n}")).await;
    }
    sweep(&backend, NOW).await;
    assert!(backend.stats().await.expect("stats work").entries <= 50);
    let left = scan(&backend, 7).await.len();
    assert!(
        (1..=50).contains(&left),
        "{left} entries are left of a capacity of 50"
    );
}

/// A secret that was just fetched is held, however often the others were read.
pub async fn a_new_entry_displaces_a_busy_one(fixture: &impl Fixture) {
    let backend = fixture.open(context(4)).await;
    let busy = ["a", "b", "c", "d"];
    for name in busy {
        put(&backend, name).await;
    }
    for _ in 0..100 {
        present(&backend, &busy).await;
    }
    sweep(&backend, NOW).await;
    put(&backend, "new").await;
    sweep(&backend, NOW).await;
    assert_eq!(present(&backend, &["new"]).await, [true]);
}

/// Reading an entry saves it from eviction.
pub async fn the_least_recently_used_go_first(fixture: &impl Fixture) {
    let backend = fixture.open(context(3)).await;
    for name in ["a", "b", "c"] {
        put(&backend, name).await;
        sweep(&backend, NOW).await;
    }
    assert_eq!(present(&backend, &["a"]).await, [true]);
    sweep(&backend, NOW).await;
    put(&backend, "d").await;
    sweep(&backend, NOW).await;
    assert_eq!(
        present(&backend, &["a", "b", "c", "d"]).await,
        [true, false, true, true]
    );
}
