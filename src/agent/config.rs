//! The config file, from text to what the parts are built with.

mod cache;
mod file;
mod log;
mod server;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use kms_agent_core::config::{ConfigTable, KeySpec, Problem, Report};
use kms_agent_kms::Settings as KmsSettings;

pub(crate) use self::cache::CacheConfig;
pub(crate) use self::log::{LogConfig, LogFormat, LogLevel, LogTarget};
pub(crate) use self::server::ServerConfig;

/// A validated config file. Nothing has been opened yet but the file itself.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) server: ServerConfig,
    pub(crate) kms: KmsSettings,
    pub(crate) cache: CacheConfig,
    pub(crate) log: LogConfig,
    /// Every key with its value as it would be written, to tell what a reload changes.
    keys: BTreeMap<String, String>,
}

/// Everything that is wrong with a config file.
#[derive(Debug)]
pub(crate) struct ConfigError {
    name: String,
    problems: Vec<Problem>,
}

impl Config {
    /// Reads the file at `path`.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let fail = |message| ConfigError {
            name: name.clone(),
            problems: vec![Problem {
                line: 0,
                key: String::new(),
                message,
            }],
        };
        let bytes =
            std::fs::read(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|_| fail("is not UTF-8 text".to_owned()))?;
        Self::parse(&text, &name)
    }

    /// Reads `text`; `name` is what problems call it.
    pub(crate) fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        let (config, report) = Self::examine(text);
        let mut problems = report.problems;
        match config {
            Some(mut config) if problems.is_empty() => {
                config.keys = report
                    .keys
                    .into_iter()
                    .map(|spec| (spec.key, spec.value))
                    .collect();
                Ok(config)
            }
            _ => {
                problems.sort_by_key(|problem| problem.line);
                Err(ConfigError {
                    name: name.to_owned(),
                    problems,
                })
            }
        }
    }

    /// Every key with its default and what it may hold.
    pub(crate) fn keys() -> Vec<KeySpec> {
        Self::examine("").1.keys
    }

    /// Reads `text` and tells everything that came to light.
    fn examine(text: &str) -> (Option<Self>, Report) {
        let report = RefCell::new(Report::default());
        let config = match file::read(text) {
            Ok(raw) => {
                let mut root = ConfigTable::root(raw, &report);
                let config = Self::resolve(&mut root);
                root.finish();
                config
            }
            Err(problems) => {
                report.borrow_mut().problems = problems;
                None
            }
        };
        (config, report.into_inner())
    }

    fn resolve(root: &mut ConfigTable<'_>) -> Option<Self> {
        let mut table = root.table("Server");
        let server = ServerConfig::read(&mut table);
        let serve_stale = table.boolean("IgnoreTransientErrors", true);
        table.finish();
        let kms = KmsSettings::read(root);
        let mut table = root.table("Cache");
        let cache = CacheConfig::read(&mut table, serve_stale);
        table.finish();
        let mut table = root.table("Log");
        let log = LogConfig::read(&mut table);
        table.finish();
        Some(Self {
            server: server?,
            kms: kms?,
            cache: cache?,
            log: log?,
            keys: BTreeMap::new(),
        })
    }

    /// The keys whose values differ from those of `other`.
    pub(crate) fn differing_keys(&self, other: &Self) -> Vec<&str> {
        self.keys
            .iter()
            .filter(|(key, value)| other.keys.get(*key) != Some(value))
            .map(|(key, _)| key.as_str())
            .collect()
    }

    /// Takes over `key` and what stands for it, so that it no longer differs.
    pub(crate) fn adopt(&mut self, key: &str, other: &Self) {
        if let (Some(mine), Some(theirs)) = (self.keys.get_mut(key), other.keys.get(key)) {
            mine.clone_from(theirs);
        }
    }
}

impl ConfigError {
    /// What is wrong, in the order of the lines.
    pub(crate) fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = self.problems.len() > 1;
        if many {
            write!(f, "{} has {} problems:", self.name, self.problems.len())?;
        }
        for problem in &self.problems {
            if many {
                f.write_str("\n  ")?;
            }
            f.write_str(&self.name)?;
            if problem.line > 0 {
                write!(f, ":{}", problem.line)?;
            }
            if problem.key.is_empty() {
                write!(f, ": {}", problem.message)?;
            } else {
                write!(f, ": {}: {}", problem.key, problem.message)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
