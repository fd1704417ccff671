//! The table `Cache` of a config file that chooses this backend.

use std::collections::BTreeMap;
use std::path::Path;

use kms_agent_core::config::{Located, RawTable, RawValue};

/// The keys of `Cache.Files`.
pub(crate) fn files_table(path: &Path) -> RawTable {
    let path = path.to_str().expect("a path of text").to_owned();
    table([("Path", RawValue::String(path))])
}

/// A table of these keys.
pub(crate) fn table<const N: usize>(entries: [(&str, RawValue); N]) -> RawTable {
    let located = |(key, value): (&str, _)| (key.to_owned(), Located { line: 1, value });
    RawTable {
        line: 1,
        entries: BTreeMap::from(entries.map(located)),
    }
}
