//! Table `Cache`.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use kms_agent_cache::{Policies, Policy};
use kms_agent_core::config::ConfigTable;
use kms_agent_core::registry::ChosenBackend;
use kms_agent_core::{SecretId, SecretRef, VersionSelector};

use crate::backends::{BACKENDS, DEFAULT};

const PREFETCH: &str =
    "a list of secret ids, or of tables with SecretId, VersionId and VersionStage";

/// Values of `TtlSeconds`.
pub(super) const TTL_RANGE: RangeInclusive<u32> = 0..=86_400;

/// Values of `MaxStaleSeconds`.
pub(super) const MAX_STALE_RANGE: RangeInclusive<u32> = 0..=2_592_000;

/// Table `Cache` and the tables of the backends in it.
#[derive(Debug)]
pub(crate) struct CacheConfig {
    pub(crate) backend: ChosenBackend,
    pub(crate) size: NonZeroUsize,
    pub(crate) policy: Policies,
    /// Secrets that are loaded at startup.
    pub(crate) prefetch: Vec<SecretRef>,
}

impl CacheConfig {
    /// Reads its keys; `None` after a problem. `serve_stale` stands in the table `Server`.
    pub(crate) fn read(table: &mut ConfigTable<'_>, serve_stale: bool) -> Option<Self> {
        let backend = BACKENDS.configure(table, DEFAULT);
        let size = table.integer("CacheSize", 1..=100_000, 1000);
        let mut seconds =
            |key, range, default| Duration::from_secs(table.integer(key, range, default).into());
        let ttl = seconds("TtlSeconds", TTL_RANGE, 300);
        let max_stale = seconds("MaxStaleSeconds", MAX_STALE_RANGE, 86_400);
        let negative_ttl = seconds("NegativeTtlSeconds", 0..=60, 5);
        let refresh_ahead = table.boolean("RefreshAhead", true);
        let watch_every = table.integer("WatchSeconds", 5..=3600, 30);
        let prefetch = table.tables("Prefetch", "SecretId", PREFETCH, read_secret);
        Some(Self {
            backend: backend?,
            size: NonZeroUsize::new(usize::try_from(size).ok()?)?,
            policy: Policies::from(Policy {
                ttl,
                max_stale,
                negative_ttl,
                refresh_ahead,
                serve_stale,
                watch_every: Duration::from_secs(watch_every.into()),
            }),
            prefetch: prefetch?,
        })
    }
}

fn read_secret(table: &mut ConfigTable<'_>) -> Option<SecretRef> {
    let id = table.string("SecretId", "", "a name or ARN", |text| {
        SecretId::parse(text).map_err(|error| format!("{error}; write a secret's name or ARN"))
    });
    let mut text = |key| table.string(key, "", "text", |text| Ok(text.to_owned()));
    let (version_id, stage) = (text("VersionId")?, text("VersionStage")?);
    match VersionSelector::parse(Some(&version_id), Some(&stage)) {
        Ok(selector) => Some(SecretRef { id: id?, selector }),
        Err(error) => {
            table.problem(
                table.line_of("VersionId"),
                "VersionId",
                format!("or VersionStage {error}"),
            );
            None
        }
    }
}
