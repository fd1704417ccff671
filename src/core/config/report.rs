//! Report on a config file.

use super::variable::Overrides;

/// Something wrong with a config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1; 0 when it belongs to no line.
    pub line: usize,
    /// The environment variable that holds the value, where the file does not.
    pub variable: Option<String>,
    /// The full key, such as `Cache.TtlSeconds`; empty for the file as a whole.
    pub key: String,
    /// Fault, and the allowed values.
    pub message: String,
}

/// A key that some part of the agent reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// The full key, such as `Cache.TtlSeconds`.
    pub key: String,
    /// The default as it would be written in the file.
    pub default: String,
    /// Description of the allowed values.
    pub allowed: String,
    /// The value in force, as it would be written in the file. For comparing, not for showing.
    pub value: String,
    /// Whether the key is one value, which an environment variable can set, and not a list.
    pub is_scalar: bool,
}

/// Keys and problems of a config file.
#[derive(Debug, Default)]
pub struct Report {
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// Every key that was asked for.
    pub keys: Vec<KeySpec>,
    /// The environment variables that override the file.
    pub overrides: Overrides,
}

impl Report {
    /// For a config whose file `overrides` override.
    pub fn overridden_by(overrides: Overrides) -> Self {
        Self {
            overrides,
            ..Self::default()
        }
    }
}
