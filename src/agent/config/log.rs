//! Table `Log`.

use std::path::PathBuf;

use kms_agent_core::config::ConfigTable;

const LEVELS: [&str; 5] = ["Debug", "Info", "Warn", "Error", "None"];

/// Table `Log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogConfig {
    pub(crate) level: LogLevel,
    pub(crate) target: LogTarget,
    /// Size at which a file is rotated, in bytes.
    pub(crate) max_bytes: u64,
    /// Number of rotated files that are kept.
    pub(crate) max_backups: u32,
    pub(crate) format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogTarget {
    Stderr,
    /// Folder of `kms-agent.log`.
    Folder(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl LogConfig {
    /// Reads its keys; `None` after a problem.
    pub(crate) fn read(table: &mut ConfigTable<'_>) -> Option<Self> {
        let level = match table.choice_ignoring_case("LogLevel", &LEVELS, "Info") {
            "Debug" => LogLevel::Debug,
            "Warn" => LogLevel::Warn,
            "Error" => LogLevel::Error,
            "None" => LogLevel::None,
            _ => LogLevel::Info,
        };
        let target = table.string(
            "LogPath",
            "./logs/",
            "a folder, or \"\" or \"stderr\" for stderr",
            |text| {
                Ok(match text {
                    "" | "stderr" => LogTarget::Stderr,
                    folder => LogTarget::Folder(PathBuf::from(folder)),
                })
            },
        );
        let max_megabytes = table.integer("MaxSize", 1..=10_000, 100);
        let max_backups = table.integer("MaxBackups", 0..=100, 2);
        let format = match table.choice_ignoring_case("Format", &["Text", "Json"], "Text") {
            "Json" => LogFormat::Json,
            _ => LogFormat::Text,
        };
        Some(Self {
            level,
            target: target?,
            max_bytes: u64::from(max_megabytes) * 1024 * 1024,
            max_backups,
            format,
        })
    }
}
