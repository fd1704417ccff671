//! The clauses, each a function that panics where a backend breaks it.

mod age;
mod capacity;
mod concurrency;
mod durability;
mod entry;
mod listing;
mod removal;

use std::num::NonZeroUsize;
use std::sync::Arc;

use kms_agent_core::{CacheBackend, SecretKey, Timestamp};

pub use self::age::*;
pub use self::capacity::*;
pub use self::concurrency::*;
pub use self::durability::*;
pub use self::entry::*;
pub use self::listing::*;
pub use self::removal::*;
use crate::sample::{NOW, entry, key};

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
