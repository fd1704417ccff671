//! Entries that the next process finds.

use kms_agent_core::backend::BackendErrorKind;

use crate::Fixture;
use crate::clause::{present, put};
use crate::sample::{NOW, capacity, context, entry, key};

/// `info` tells the truth about durability, and a durable backend remembers its scope.
pub async fn durable_entries_survive_reopening_and_others_do_not(fixture: &impl Fixture) {
    let backend = fixture.open(context(10)).await;
    put(&backend, "a").await;
    backend.close().await.expect("close works");
    drop(backend);
    let backend = fixture.open(context(10)).await;
    let info = backend.info();
    assert_eq!(present(&backend, &["a"]).await, [info.durable]);
    let scope = key("a").scope;
    assert_eq!(info.resumed.is_some(), info.durable);
    if let Some(resumed) = info.resumed {
        assert_eq!(resumed.scope, scope);
        assert!(resumed.written_at >= entry(b"a").lifetime.fetched_at);
    }
}

/// A removal needs no flush to survive, and neither does `clear`.
pub async fn removals_are_durable_without_a_flush(fixture: &impl Fixture) {
    let backend = fixture.open(context(10)).await;
    put(&backend, "a").await;
    put(&backend, "b").await;
    backend.flush().await.expect("flush works");
    backend.remove(&key("a")).await.expect("remove works");
    backend.close().await.expect("close works");
    drop(backend);
    let backend = fixture.open(context(10)).await;
    assert_eq!(
        present(&backend, &["a", "b"]).await,
        [false, backend.info().durable]
    );
    backend.clear().await.expect("clear works");
    backend.close().await.expect("close works");
    drop(backend);
    let backend = fixture.open(context(10)).await;
    assert_eq!(present(&backend, &["a", "b"]).await, [false, false]);
}

/// After `close` every operation fails with `Closed`; closing again succeeds.
pub async fn a_closed_cache_says_so(fixture: &impl Fixture) {
    let backend = fixture.open(context(10)).await;
    put(&backend, "a").await;
    backend.close().await.expect("close works");
    let kinds = [
        backend.get(&key("a"), NOW).await.err(),
        backend.put(&key("a"), entry(b"a")).await.err(),
        backend.remove(&key("a")).await.err(),
        backend.clear().await.err(),
        backend.scan(None, capacity(1)).await.err(),
        backend.stats().await.err(),
        backend.sweep(NOW).await.err(),
        backend.flush().await.err(),
    ]
    .map(|error| error.map(|error| error.kind()));
    assert_eq!(kinds, [Some(BackendErrorKind::Closed); 8]);
    backend.close().await.expect("closing twice works");
}
