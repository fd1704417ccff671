//! Keys, entries and instants for the clauses.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_cache::SystemClock;
use kms_agent_core::registry::BackendContext;
use kms_agent_core::{
    CacheEntry, Lifetime, Scope, Secret, SecretId, SecretKey, SecretRef, SecretValue, Timestamp,
    VersionSelector,
};
use zeroize::Zeroizing;

/// The present; backends have no clock.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

pub(crate) const HOUR: Duration = Duration::from_hours(1);

pub(crate) fn capacity(entries: usize) -> NonZeroUsize {
    NonZeroUsize::new(entries).expect("a capacity is not zero")
}

pub(crate) fn context(entries: usize) -> BackendContext {
    BackendContext {
        capacity: capacity(entries),
        clock: Arc::new(SystemClock),
        data_keys: None,
    }
}

pub(crate) fn key(name: &str) -> SecretKey {
    key_of("kms.example", "identity", name, None, None)
}

pub(crate) fn key_of(
    endpoint: &str,
    identity: &str,
    name: &str,
    version_id: Option<&str>,
    stage: Option<&str>,
) -> SecretKey {
    SecretKey {
        scope: Arc::new(Scope {
            endpoint: endpoint.into(),
            identity: identity.into(),
        }),
        secret: SecretRef {
            id: SecretId::parse(name).expect("a valid id"),
            selector: VersionSelector::parse(version_id, stage).expect("a valid selector"),
        },
    }
}

/// An entry that dies an hour from [`NOW`].
pub(crate) fn entry(value: &[u8]) -> CacheEntry {
    entry_until(value, NOW.plus(HOUR))
}

pub(crate) fn entry_until(value: &[u8], usable_until: Timestamp) -> CacheEntry {
    CacheEntry {
        secret: Secret {
            answer: SecretValue::new(Zeroizing::new(value.to_vec())),
            version_id: "v1".into(),
            stages: ["ACSCurrent".into(), "custom".into()].into(),
        },
        lifetime: Lifetime {
            fetched_at: NOW.minus(HOUR),
            rotates_at: None,
            usable_until,
        },
    }
}
