//! The table `Cache`.

use std::num::NonZeroUsize;
use std::time::Duration;

use kms_agent_core::Policy;
use kms_agent_core::config::ConfigTable;
use kms_agent_core::registry::ChosenBackend;

use crate::backends::{BACKENDS, DEFAULT};

/// The table `Cache` and the tables of the backends in it.
#[derive(Debug)]
pub(crate) struct CacheConfig {
    pub(crate) backend: ChosenBackend,
    pub(crate) size: NonZeroUsize,
    pub(crate) policy: Policy,
}

impl CacheConfig {
    /// Reads its keys; `None` after a problem. `serve_stale` stands in the table `Server`.
    pub(crate) fn read(table: &mut ConfigTable<'_>, serve_stale: bool) -> Option<Self> {
        let backend = BACKENDS.configure(table, DEFAULT);
        let size = table.integer("CacheSize", 1..=100_000, 1000);
        let mut seconds =
            |key, most, default| Duration::from_secs(table.integer(key, 0..=most, default).into());
        let ttl = seconds("TtlSeconds", 86_400, 300);
        let max_stale = seconds("MaxStaleSeconds", 2_592_000, 86_400);
        let negative_ttl = seconds("NegativeTtlSeconds", 60, 5);
        let refresh_ahead = table.boolean("RefreshAhead", true);
        Some(Self {
            backend: backend?,
            size: NonZeroUsize::new(usize::try_from(size).ok()?)?,
            policy: Policy {
                ttl,
                max_stale,
                negative_ttl,
                refresh_ahead,
                serve_stale,
            },
        })
    }
}
