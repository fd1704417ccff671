//! Concurrent callers, some of which stop waiting.

use std::sync::Arc;

use crate::Fixture;
use crate::clause::{present, put};
use crate::sample::{NOW, context, entry, key};

/// No reader gets the bytes of one entry with the version of another.
pub async fn readers_see_whole_entries_while_writers_replace_them(fixture: &impl Fixture) {
    let backend = fixture.open(context(10)).await;
    put(&backend, "a").await;
    let writer = {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move {
            for n in 0..200_u32 {
                let mut given = entry(n.to_string().repeat(100).as_bytes());
                given.secret.version_id = n.to_string().repeat(100).into();
                backend.put(&key("a"), given).await.expect("put works");
                tokio::task::yield_now().await;
            }
        })
    };
    while !writer.is_finished() {
        let found = backend
            .get(&key("a"), NOW)
            .await
            .expect("get works")
            .expect("never absent");
        let (bytes, version) = (
            found.secret.answer.expose(),
            found.secret.version_id.as_bytes(),
        );
        assert!(
            bytes == b"a" || bytes == version,
            "half of one entry and half of another"
        );
        tokio::task::yield_now().await;
    }
    writer.await.expect("the writer works");
}

/// A caller may stop waiting at any moment.
pub async fn an_abandoned_call_leaves_the_cache_usable(fixture: &impl Fixture) {
    let backend = fixture.open(context(10)).await;
    put(&backend, "a").await;
    let (a, b, c) = (key("a"), key("b"), key("c"));
    for _ in 0..20 {
        poll_once(backend.put(&b, entry(b"b"))).await;
        poll_once(backend.get(&a, NOW)).await;
        poll_once(backend.remove(&c)).await;
    }
    put(&backend, "c").await;
    assert_eq!(present(&backend, &["a", "c"]).await, [true, true]);
}

/// Polls a call at most once and drops it.
async fn poll_once(call: impl Future) {
    tokio::select! {
        biased;
        _ = call => {},
        () = std::future::ready(()) => {},
    };
}
