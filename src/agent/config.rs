//! Config file, from text to the settings of the parts.

mod cache;
mod file;
mod log;
mod official;
mod secret;
mod server;
mod source;
mod trust;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use kms_agent_core::config::{
    ConfigTable, KeySpec, Overrides, Problem, RawTable, RawValue, Report,
};
use kms_agent_core::shortage;
use kms_agent_files::FileSettings;
use kms_agent_kms::Settings as KmsSettings;
use kms_agent_server::caller::ClientSettings;

pub(crate) use self::cache::CacheConfig;
pub(crate) use self::log::{LogConfig, LogFormat, LogLevel, LogTarget};
#[cfg(unix)]
pub(crate) use self::server::UNPLACED;
pub(crate) use self::server::{ServerConfig, SocketConfig};
use self::source::Unreadable;
use crate::exit::Failure;

/// Variables of the client commands, which have the same prefix as those of keys.
const OF_COMMANDS: [&str; 3] = ["KMS_AGENT_SOCKET", "KMS_AGENT_USER", "KMS_AGENT_CHANGED"];

/// A validated config. Nothing has been opened yet but the file itself.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) server: ServerConfig,
    pub(crate) kms: KmsSettings,
    pub(crate) cache: CacheConfig,
    pub(crate) log: LogConfig,
    pub(crate) clients: Vec<ClientSettings>,
    /// Files that are kept equal to secrets.
    pub(crate) files: Vec<FileSettings>,
    /// Warnings about settings that are accepted without effect.
    pub(crate) warnings: Vec<String>,
    /// Whether the file sets a key at all.
    has_keys: bool,
    /// Every key with its value as text, to find what a reload changes.
    keys: BTreeMap<String, String>,
}

/// A config file, and the environment variables that override it.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    pub(crate) overrides: Overrides,
}

/// All problems of a config.
#[derive(Debug)]
pub(crate) struct ConfigError {
    name: String,
    problems: Vec<Problem>,
    /// The file could not be read, for a reason that may pass.
    is_shortage: bool,
}

impl Config {
    /// Reads the file at `path`, which `overrides` override.
    pub(crate) fn load(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        Self::load_text(source::read(path), path, overrides)
    }

    /// Reads the file at `path` again. A file that can be read only once is refused. So is a file without any key,
    /// which is probably being written, unless the config in force has no key either.
    pub(crate) fn load_again(
        path: &Path,
        overrides: &Overrides,
        has_keys: bool,
    ) -> Result<Self, ConfigError> {
        let loaded = Self::load_text(source::read_again(path), path, overrides)?;
        if has_keys && !loaded.has_keys {
            let message = "is empty; a file without any key is not taken in a reload".to_owned();
            return Err(ConfigError::of_file(path, message));
        }
        Ok(loaded)
    }

    fn load_text(
        text: Result<String, Unreadable>,
        path: &Path,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        let text = text.map_err(|error| match error {
            Unreadable::Io(error) if shortage::may_pass(&error) => {
                let remedy = shortage::remedy(&error);
                let message = format!("cannot be read: {error}. {remedy}");
                ConfigError {
                    is_shortage: true,
                    ..ConfigError::of_file(path, message)
                }
            }
            Unreadable::Io(error) => ConfigError::of_file(path, format!("cannot be read: {error}")),
            Unreadable::Unusable(reason) => ConfigError::of_file(path, reason.to_owned()),
        })?;
        Self::parse_with(&text, &path.display().to_string(), overrides)
    }

    /// Reads `text` without the environment; problems call it `name`.
    pub(crate) fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        Self::parse_with(text, name, &Overrides::default())
    }

    /// Reads `text`, which `overrides` override.
    pub(crate) fn parse_with(
        text: &str,
        name: &str,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        let Examined {
            config,
            report,
            warnings,
            has_keys,
        } = Self::examine(text, overrides);
        let of_variables = report.variable_warnings(&OF_COMMANDS);
        let mut problems = report.problems;
        match config {
            Some(mut config) if problems.is_empty() => {
                config.keys = report
                    .keys
                    .into_iter()
                    .map(|spec| (spec.key, spec.value))
                    .collect();
                config.has_keys = has_keys;
                config.warnings = warnings
                    .iter()
                    .map(|warning| shown(warning, name))
                    .chain(of_variables)
                    .collect();
                Ok(config)
            }
            _ => {
                problems.sort_by_key(|problem| problem.line);
                Err(ConfigError {
                    name: name.to_owned(),
                    problems,
                    is_shortage: false,
                })
            }
        }
    }

    /// Returns every key with its default and its allowed values.
    pub(crate) fn keys() -> Vec<KeySpec> {
        Self::examine("", &Overrides::default()).report.keys
    }

    /// Reads `text` and returns all findings.
    fn examine(text: &str, overrides: &Overrides) -> Examined {
        let report = RefCell::new(Report::overridden_by(overrides.clone()));
        let mut examined = Examined::default();
        match file::read(text) {
            Ok(mut raw) => {
                examined.has_keys = has_keys(&raw);
                examined.warnings = official::set_aside(&mut raw);
                let mut root = ConfigTable::root(raw, &report);
                examined.config = Self::resolve(&mut root);
                root.finish();
            }
            Err(problems) => report.borrow_mut().problems = problems,
        }
        examined.report = report.into_inner();
        examined
    }

    fn resolve(root: &mut ConfigTable<'_>) -> Option<Self> {
        let mut table = root.table("Server");
        let server = ServerConfig::read(&mut table);
        let serve_stale = table.boolean("IgnoreTransientErrors", true);
        table.finish();
        let kms = KmsSettings::read(root);
        let mut table = root.table("Cache");
        let mut cache = CacheConfig::read(&mut table, serve_stale);
        table.finish();
        let general = cache.as_ref().map(|cache| cache.policy.general.clone());
        let rules = secret::read(root, &general.unwrap_or_default());
        if let (Some(cache), Some(rules)) = (&mut cache, rules) {
            cache.policy.by_secret = rules;
        }
        let mut table = root.table("Log");
        let log = LogConfig::read(&mut table);
        table.finish();
        let clients = ClientSettings::read_all(root);
        let files = FileSettings::read_all(root);
        Some(Self {
            clients: clients?,
            server: server?,
            kms: kms?,
            cache: cache?,
            log: log?,
            files: files?,
            warnings: Vec::new(),
            has_keys: false,
            keys: BTreeMap::new(),
        })
    }

    /// Returns the keys whose values differ from those of `other`.
    pub(crate) fn differing_keys(&self, other: &Self) -> Vec<&str> {
        self.keys
            .iter()
            .filter(|(key, value)| other.keys.get(*key) != Some(value))
            .map(|(key, _)| key.as_str())
            .collect()
    }

    /// Whether the file sets a key at all.
    pub(crate) fn has_keys(&self) -> bool {
        self.has_keys
    }

    /// Takes over warnings and state of the file of `other`. Returns the warnings that are new.
    pub(crate) fn adopt_file(&mut self, other: &mut Self) -> Vec<String> {
        self.has_keys = other.has_keys;
        let warnings = std::mem::take(&mut other.warnings);
        let former = std::mem::replace(&mut self.warnings, warnings.clone());
        warnings
            .into_iter()
            .filter(|warning| !former.contains(warning))
            .collect()
    }

    /// Takes over the value of `key`, so that it no longer differs.
    pub(crate) fn adopt(&mut self, key: &str, other: &Self) {
        if let (Some(mine), Some(theirs)) = (self.keys.get_mut(key), other.keys.get(key)) {
            mine.clone_from(theirs);
        }
    }
}

/// Findings about a text.
#[derive(Default)]
struct Examined {
    /// `None` after a problem.
    config: Option<Config>,
    report: Report,
    warnings: Vec<Problem>,
    has_keys: bool,
}

/// Whether `table` or a table in it has a key.
fn has_keys(table: &RawTable) -> bool {
    table.entries.values().any(|located| match &located.value {
        RawValue::Table(table) => has_keys(table),
        _ => true,
    })
}

impl ConfigError {
    fn of_file(path: &Path, message: String) -> Self {
        Self {
            name: path.display().to_string(),
            problems: vec![Problem {
                message,
                ..Problem::default()
            }],
            is_shortage: false,
        }
    }

    /// Returns the problems, in the order of the lines.
    pub(crate) fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        if error.is_shortage {
            Self::failed(error.to_string())
        } else {
            Self::config_lines(&error.to_string())
        }
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
            f.write_str(&shown(problem, &self.name))?;
        }
        Ok(())
    }
}

/// Returns one line about `problem` of the file `name`. A value of the environment has the variable's name in place of
/// file and line.
fn shown(problem: &Problem, name: &str) -> String {
    let name = problem.variable.as_deref().unwrap_or(name);
    let mut text = match problem.line {
        0 => name.to_owned(),
        line => format!("{name}:{line}"),
    };
    for part in [&problem.key, &problem.message] {
        if !part.is_empty() {
            text.push_str(": ");
            text.push_str(part);
        }
    }
    text
}

#[cfg(test)]
mod tests;
