//! The clauses, each a function that panics where a backend breaks it.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::backend::BackendErrorKind;
use kms_agent_core::{CacheBackend, SecretKey, Timestamp, VersionSelector};

use crate::Fixture;
use crate::sample::{HOUR, NOW, capacity, entry, entry_until, key, key_of};

async fn value(
    backend: &Arc<dyn CacheBackend>,
    key: &SecretKey,
    now: Timestamp,
) -> Option<Vec<u8>> {
    let found = backend.get(key, now).await.expect("get works");
    found.map(|entry| entry.secret.answer.expose().to_vec())
}

async fn put(backend: &Arc<dyn CacheBackend>, name: &str) {
    backend
        .put(&key(name), entry(name.as_bytes()))
        .await
        .expect("put works");
}

async fn present(backend: &Arc<dyn CacheBackend>, names: &[&str]) -> Vec<bool> {
    let mut found = Vec::new();
    for name in names {
        found.push(value(backend, &key(name), NOW).await.is_some());
    }
    found
}

async fn sweep(backend: &Arc<dyn CacheBackend>, now: Timestamp) {
    backend.sweep(now).await.expect("sweep works");
}

/// Polls a call at most once and drops it.
async fn poll_once(call: impl Future) {
    tokio::select! {
        biased;
        _ = call => {},
        () = std::future::ready(()) => {},
    };
}

async fn scan(backend: &Arc<dyn CacheBackend>, page: usize) -> Vec<SecretKey> {
    let limit = NonZeroUsize::new(page).expect("a page is not empty");
    let (mut keys, mut from) = (Vec::new(), None);
    loop {
        let page = backend.scan(from, limit).await.expect("scan works");
        assert!(
            page.items.len() <= limit.get(),
            "a page holds at most what was asked for"
        );
        keys.extend(page.items.into_iter().map(|item| item.key));
        match page.next {
            Some(next) => from = Some(next),
            None => return keys,
        }
    }
}

/// Bytes, version, stages and lifetime come back as they went in, whatever the bytes are.
pub async fn what_was_put_is_returned_byte_for_byte(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(10)).await;
    let all_bytes: Vec<u8> = (0..=255).collect();
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("bytes", all_bytes),
        ("large", vec![0xA5; 256 * 1024]),
    ] {
        let mut given = entry(&bytes);
        given.lifetime.rotates_at = Some(NOW.plus(Duration::from_millis(1)));
        backend
            .put(&key(name), given.clone())
            .await
            .expect("put works");
        let found = backend
            .get(&key(name), NOW)
            .await
            .expect("get works")
            .expect("it is there");
        assert!(
            found.secret.answer.expose() == bytes,
            "the bytes of {name} changed"
        );
        assert_eq!(found.secret.version_id, given.secret.version_id);
        assert_eq!(found.secret.stages, given.secret.stages);
        assert_eq!(found.lifetime, given.lifetime);
    }
}

/// A key that was never put is absent.
pub async fn an_unknown_key_is_absent(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(10)).await;
    put(&backend, "known").await;
    assert_eq!(value(&backend, &key("unknown"), NOW).await, None);
}

/// Endpoint, identity, id, version id and stage each make another entry.
pub async fn keys_that_differ_in_any_part_are_separate(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(10)).await;
    let keys = [
        key_of("e", "i", "a", None, None),
        key_of("e2", "i", "a", None, None),
        key_of("e", "i2", "a", None, None),
        key_of("e", "i", "a2", None, None),
        key_of("e", "i", "a", Some("x"), None),
        key_of("e", "i", "a", None, Some("x")),
        key_of("e", "i", "a", Some("x"), Some("x")),
    ];
    for (n, key) in keys.iter().enumerate() {
        backend
            .put(key, entry(n.to_string().as_bytes()))
            .await
            .expect("put works");
    }
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(
            value(&backend, key, NOW).await,
            Some(n.to_string().into_bytes())
        );
    }
    assert_eq!(keys[0].secret.selector, VersionSelector::CURRENT);
}

/// The last put counts.
pub async fn a_put_replaces(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(10)).await;
    for text in ["one", "two", "three"] {
        backend
            .put(&key("a"), entry(text.as_bytes()))
            .await
            .expect("put works");
        assert_eq!(
            value(&backend, &key("a"), NOW).await,
            Some(text.as_bytes().to_vec())
        );
    }
    assert_eq!(scan(&backend, 10).await.len(), 1);
}

/// `usable_until` is the bound, to the millisecond, and the caller's `now` the only clock.
pub async fn an_expired_entry_is_returned_and_a_dead_one_never(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(10)).await;
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

/// Gone for `get` and for `scan`.
pub async fn what_was_removed_is_gone(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(10)).await;
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
    let backend = fixture.open(capacity(10)).await;
    backend
        .remove(&key("a"))
        .await
        .expect("removing nothing works");
}

/// After `clear` nothing is found, and what is put later is.
pub async fn clearing_drops_everything_and_the_cache_goes_on(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(300)).await;
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

/// However many are put, at most the capacity is held after a sweep.
pub async fn capacity_holds_after_a_sweep(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(50)).await;
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
    let backend = fixture.open(capacity(4)).await;
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
    let backend = fixture.open(capacity(3)).await;
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

/// Pages of any size add up to everything, once.
pub async fn a_scan_visits_everything_once(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(100)).await;
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

/// No entries, no pages.
pub async fn a_scan_of_nothing_is_empty(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(10)).await;
    let page = backend.scan(None, capacity(10)).await.expect("scan works");
    assert!(page.items.is_empty() && page.next.is_none());
}

/// A key's hits are what `get` found, also across a put in between; removal ends the count.
pub async fn hits_are_counted_and_outlive_replacement(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(10)).await;
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

/// What is dead leaves the books; what is only expired stays.
pub async fn a_sweep_drops_the_dead_and_only_them(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(100)).await;
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

/// The deadline of a replaced entry means nothing for the one that replaced it.
pub async fn a_longer_life_by_replacement_survives_the_old_deadline(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(10)).await;
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

/// Replaced, removed, evicted, dead or cleared: after the next sweep the caller's handle is the last one, so
/// that letting go of it wipes the bytes.
pub async fn a_value_that_left_is_let_go_by_the_next_sweep(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(2)).await;
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

/// Never bytes of one entry with the version of another.
pub async fn readers_see_whole_entries_while_writers_replace_them(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(10)).await;
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
    let backend = fixture.open(capacity(10)).await;
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

/// Entries and capacity are what they are.
pub async fn stats_count_what_is_held(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(10)).await;
    let before = backend.stats().await.expect("stats work");
    assert_eq!((before.entries, before.capacity), (0, 10));
    put(&backend, "a").await;
    put(&backend, "b").await;
    backend.remove(&key("a")).await.expect("remove works");
    sweep(&backend, NOW).await;
    assert_eq!(backend.stats().await.expect("stats work").entries, 1);
}

/// What `info` says about durability is true, and a durable backend remembers in which scope and until when it
/// was used.
pub async fn durable_entries_survive_reopening_and_others_do_not(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(10)).await;
    put(&backend, "a").await;
    backend.close().await.expect("close works");
    drop(backend);
    let backend = fixture.open(capacity(10)).await;
    let info = backend.info();
    assert_eq!(present(&backend, &["a"]).await, [info.durable]);
    assert_eq!(info.resumed.is_some(), info.durable);
    if let Some(resumed) = info.resumed {
        assert_eq!(resumed.scope, key("a").scope);
        assert!(resumed.written_at >= entry(b"a").lifetime.fetched_at);
    }
}

/// A removal needs no flush to survive, and neither does `clear`.
pub async fn removals_are_durable_without_a_flush(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(10)).await;
    put(&backend, "a").await;
    put(&backend, "b").await;
    backend.flush().await.expect("flush works");
    backend.remove(&key("a")).await.expect("remove works");
    backend.close().await.expect("close works");
    drop(backend);
    let backend = fixture.open(capacity(10)).await;
    assert_eq!(
        present(&backend, &["a", "b"]).await,
        [false, backend.info().durable]
    );
    backend.clear().await.expect("clear works");
    backend.close().await.expect("close works");
    drop(backend);
    let backend = fixture.open(capacity(10)).await;
    assert_eq!(present(&backend, &["a", "b"]).await, [false, false]);
}

/// After `close` every operation is an error of its own kind, and closing again is not.
pub async fn a_closed_cache_says_so(fixture: &impl Fixture) {
    let backend = fixture.open(capacity(10)).await;
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
