//! Entries are found as they were put.

use std::time::Duration;

use kms_agent_core::VersionSelector;

use crate::Fixture;
use crate::clause::{put, scan, value};
use crate::sample::{NOW, context, entry, key, key_of};

/// Bytes, version, stages and lifetime are returned unchanged, whatever the bytes are.
pub async fn what_was_put_is_returned_byte_for_byte(fixture: &impl Fixture) {
    let backend = fixture.open(context(10)).await;
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
    let backend = fixture.open(context(10)).await;
    put(&backend, "known").await;
    assert_eq!(value(&backend, &key("unknown"), NOW).await, None);
}

/// Endpoint, identity, id, version id and stage each distinguish entries.
pub async fn keys_that_differ_in_any_part_are_separate(fixture: &impl Fixture) {
    let backend = fixture.open(context(10)).await;
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

/// The last put wins.
pub async fn a_put_replaces(fixture: &impl Fixture) {
    let backend = fixture.open(context(10)).await;
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
