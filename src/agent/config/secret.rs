//! Tables `Secret`: rules for the secrets that a pattern matches.

use std::time::Duration;

use kms_agent_cache::{Policy, SecretPolicy};
use kms_agent_core::Pattern;
use kms_agent_core::config::ConfigTable;

use super::cache::{MAX_STALE_RANGE, TTL_RANGE};

const SECRET: &str =
    "a list of tables with Match, TtlSeconds, MaxStaleSeconds and FetchExtendedConfig";

/// Reads the tables; `None` after a problem. What a table leaves out is that of `general`.
pub(super) fn read(root: &mut ConfigTable<'_>, general: &Policy) -> Option<Vec<SecretPolicy>> {
    root.tables("Secret", "Match", SECRET, |table| {
        let pattern = table.string("Match", "", "a pattern of names or ARNs", |text| {
            Pattern::parse(text).map_err(|error| {
                format!("{error}; write a pattern of names or ARNs, such as \"app/*\"")
            })
        });
        let mut seconds = |key, range, default: Duration| {
            let default = u32::try_from(default.as_secs()).unwrap_or(u32::MAX);
            Duration::from_secs(table.integer(key, range, default).into())
        };
        let ttl = seconds("TtlSeconds", TTL_RANGE, general.ttl);
        let max_stale = seconds("MaxStaleSeconds", MAX_STALE_RANGE, general.max_stale);
        let extended_config = table.boolean("FetchExtendedConfig", false);
        Some(SecretPolicy {
            pattern: pattern?,
            policy: Policy {
                ttl,
                max_stale,
                ..general.clone()
            },
            extended_config,
        })
    })
}
