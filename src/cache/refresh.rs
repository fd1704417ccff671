//! Refresh of an entry in use before it expires.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use kms_agent_core::lifetime::{Lifetime, Timestamp};
use kms_agent_core::secret::SecretKey;

use crate::policy::Freshness;

/// Refreshing begins somewhere from here …
const EARLIEST: f64 = 0.75;
/// … to here of an entry's fresh life, at a point drawn for each entry.
const LATEST: f64 = 0.95;

/// Whether a reader of a fresh entry should set off a refresh.
pub(crate) fn is_due(
    key: &SecretKey,
    lifetime: &Lifetime,
    freshness: Freshness,
    now: Timestamp,
) -> bool {
    let Freshness::Fresh { left } = freshness else {
        return false;
    };
    let age = now.since(lifetime.fetched_at);
    let life = age + left;
    age >= life.mul_f64(EARLIEST) && age >= threshold(key, lifetime, life)
}

/// The entry's own point. It follows from the entry, so that asking twice draws once.
fn threshold(key: &SecretKey, lifetime: &Lifetime, life: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    (key, lifetime.fetched_at).hash(&mut hasher);
    let fraction = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
    life.mul_f64(EARLIEST + (LATEST - EARLIEST) * fraction)
}
