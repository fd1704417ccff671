//! Keys of the official KMS Agent that have no effect in this agent.
//!
//! A config file that was written for the official agent must not keep this one from starting, so these keys are
//! accepted with one warning each. The source is Alibaba Cloud's documentation, "KMS Agent overview" and "KMS Agent:
//! universal integration". Of its sample file only the table `Server` could be read in full; its keys are keys of this
//! agent too. The text says that Zap writes the log, with configurable size and retention of the files. The keys below
//! are derived from that: they are the usual settings of such a log. Replace them when the full sample is public.

use kms_agent_core::config::{Problem, RawTable, RawValue};

/// Table, key, and the reason why the key has no effect here.
const KEYS: [(&str, &str, &str); 3] = [
    (
        "Log",
        "MaxAge",
        "rotated files are kept by their number, Log.MaxBackups",
    ),
    ("Log", "Compress", "rotated files are not compressed"),
    (
        "Log",
        "LocalTime",
        "rotated files have no time in their names",
    ),
];

/// Takes those keys out of the file's top table, whatever their values are. Returns a warning for each.
pub(super) fn set_aside(root: &mut RawTable) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for (table, key, reason) in KEYS {
        let Some(RawValue::Table(entries)) = root
            .entries
            .get_mut(table)
            .map(|located| &mut located.value)
        else {
            continue;
        };
        if let Some(found) = entries.entries.remove(key) {
            warnings.push(Problem {
                line: found.line,
                key: format!("{table}.{key}"),
                message: format!("is a key of the official agent and has no effect; {reason}"),
                ..Problem::default()
            });
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn each_is_accepted_with_one_warning_whatever_its_value() {
        for (table, key, _) in KEYS {
            for value in ["5", "true", "\"x\"", "[1]", "{ a = 1 }"] {
                let text = format!("# first line\n[{table}]\n{key} = {value}\n");
                let config = Config::parse(&text, "config.toml").unwrap();
                let [warning] = &config.warnings[..] else {
                    panic!("{:?}", config.warnings);
                };
                let place = format!("config.toml:3: {table}.{key}: ");
                assert!(warning.starts_with(&place), "{warning}");
            }
        }
    }

    #[test]
    fn the_configuration_page_names_each() {
        let page = include_str!("../../../docs/configuration.md");
        for (table, key, _) in KEYS {
            assert!(page.contains(&format!("`{table}.{key}`")), "{table}.{key}");
        }
    }

    #[test]
    fn the_same_key_in_another_table_is_unknown() {
        let error = Config::parse("[Cache]\nMaxAge = 5\n", "config.toml").unwrap_err();
        assert!(error.to_string().contains("Cache.MaxAge: unknown key"));
    }
}
