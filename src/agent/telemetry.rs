//! Where log lines go: the log the operator configured, and stderr for what must not be missed.

mod filter;
mod rotate;

use std::io;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use self::rotate::RotatingFile;
use crate::config::{LogConfig, LogFormat, LogTarget};
use crate::exit::Failure;

/// The target of the line that says the agent is ready.
pub(crate) const READY: &str = "ready";

/// Lines that may wait to be written; more are dropped and counted, so that no request ever waits for a disk.
const WAITING_LINES: usize = 4096;

/// The log, opened while the process may still open anything; its writers are started later.
#[derive(Debug)]
pub(crate) struct Opened {
    config: LogConfig,
    file: Option<RotatingFile>,
    /// Why there is no file although one is configured.
    trouble: Option<io::Error>,
}

/// Writes what waits when it is dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    _workers: Vec<WorkerGuard>,
}

impl Opened {
    /// Opens the log file, if one is configured. One that cannot be opened is no reason not to start: the
    /// lines go to stderr then.
    pub(crate) fn open(config: &LogConfig) -> Self {
        let (file, trouble) = match &config.target {
            LogTarget::Stderr => (None, None),
            LogTarget::Folder(folder) => {
                match RotatingFile::open(folder, config.max_bytes, config.max_backups) {
                    Ok(file) => (Some(file), None),
                    Err(error) => (None, Some(error)),
                }
            }
        };
        Self {
            config: config.clone(),
            file,
            trouble,
        }
    }

    /// Starts the writers and takes in every line from now on. `override_level` is `RUST_LOG`.
    pub(crate) fn start(self, override_level: Option<&str>) -> Result<Guard, Failure> {
        let mut workers = Vec::new();
        let mut non_blocking = |writer: Box<dyn io::Write + Send>| -> NonBlocking {
            let (writer, guard) = NonBlockingBuilder::default()
                .lossy(true)
                .buffered_lines_limit(WAITING_LINES)
                .thread_name("log")
                .finish(writer);
            workers.push(guard);
            writer
        };
        let level = filter::level(self.config.level, override_level);
        let format = self.config.format;
        let to_file = self.file.is_some();
        let log = self.file.map(|file| {
            lines(format, non_blocking(Box::new(file))).with_filter(filter::log(level))
        });
        // Without a file stderr is the log; beside one it shows what must not be missed.
        let on_stderr = if to_file {
            filter::urgent(level)
        } else {
            filter::log(level)
        };
        let stderr = lines(format, non_blocking(Box::new(io::stderr()))).with_filter(on_stderr);
        tracing_subscriber::registry()
            .with(log)
            .with(stderr)
            .try_init()
            .map_err(|error| Failure::failed(format!("the log cannot be started: {error}")))?;
        if let Some(error) = self.trouble {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "The log file cannot be written; logging to stderr. Check Log.LogPath and its permissions"
            );
        }
        Ok(Guard { _workers: workers })
    }
}

/// Lines in the operator's format. Never in colour: they are read by programs.
fn lines<S>(format: LogFormat, writer: NonBlocking) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(false);
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}
