//! Filters of the lines that are written.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use super::READY;
use crate::config::LogLevel;

/// Targets of the agent's own lines. Libraries are logged from Warn up.
const OWN: [&str; 4] = ["alibabacloud_kms_agent", "kms_agent_", "access", "upstream"];

/// Returns the level of the agent's own targets: that of the config, unless `RUST_LOG` has a level.
pub(super) fn level(config: LogLevel, override_level: Option<&str>) -> LevelFilter {
    let config = match config {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::None => LevelFilter::OFF,
    };
    // The agent itself logs nothing below Debug.
    override_level
        .and_then(|text| text.trim().parse::<LevelFilter>().ok())
        .map_or(config, |level| level.min(LevelFilter::DEBUG))
}

/// Returns the filter of the log.
pub(super) fn log(level: LevelFilter) -> Targets {
    OWN.iter()
        .fold(Targets::new(), |targets, own| {
            targets.with_target(*own, level)
        })
        .with_target(READY, LevelFilter::INFO)
        .with_default(level.min(LevelFilter::WARN))
}

/// Returns the filter of stderr beside a log file.
pub(super) fn urgent(level: LevelFilter) -> Targets {
    log(level.min(LevelFilter::WARN))
}
