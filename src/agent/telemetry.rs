//! Log lines: the log that the operator has configured, and urgent lines on stderr.

mod dropped;
mod filter;
mod format;
mod gate;
mod json;
mod rotate;
mod writer;

use std::io;

use prometheus_client::registry::Registry as Metrics;
use tracing_appender::non_blocking::{ErrorCounter, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt};

use self::dropped::DroppedLines;
use self::format::EitherFormat;
use self::gate::Gate;
use self::rotate::RotatingFile;
use self::writer::{LogFileWriter, non_blocking};
use crate::config::{LogConfig, LogTarget};
use crate::exit::Failure;

/// Target of the lines about readiness.
pub(crate) const READY: &str = "ready";

/// Log that was opened while the process may still open every path; its writer is started later.
#[derive(Debug)]
pub(crate) struct OpenLog {
    config: LogConfig,
    file: Option<RotatingFile>,
    /// Reason why a configured file is not open.
    trouble: Option<io::Error>,
}

impl OpenLog {
    /// Opens the log file, if one is configured. If this fails, the lines go to stderr.
    pub(crate) fn open(config: &LogConfig) -> Self {
        let (file, trouble) = match &config.target {
            LogTarget::Stderr => (None, None),
            LogTarget::Folder(folder) => match RotatingFile::open(folder, config) {
                Ok(file) => (Some(file), None),
                Err(error) => (None, Some(error)),
            },
        };
        Self {
            config: config.clone(),
            file,
            trouble,
        }
    }

    /// Opens the log file again, and removes rotated files that `former`, the previous config, kept and `config` does
    /// not.
    pub(crate) fn again(config: &LogConfig, former: &LogConfig) -> Self {
        let opened = Self::open(config);
        if let Some(file) = opened
            .file
            .as_ref()
            .filter(|_| config.target == former.target)
        {
            file.remove_backups_beyond(former.max_backups);
        }
        opened
    }
}

/// Running log. Dropping it writes the waiting lines.
pub(crate) struct Log {
    /// `RUST_LOG`, which takes precedence over every config.
    override_level: Option<String>,
    format: EitherFormat,
    file: LogFileWriter,
    /// Closed while both are exchanged.
    gate: Gate,
    file_filter: reload::Handle<Targets, Registry>,
    stderr_filter: reload::Handle<Targets, Registry>,
    stderr_dropped: ErrorCounter,
    _stderr_worker: WorkerGuard,
}

impl Log {
    /// Starts the writers and receives every line from now on. `override_level` is `RUST_LOG`.
    pub(crate) fn start(opened: OpenLog, override_level: Option<String>) -> Result<Self, Failure> {
        let format = EitherFormat::default();
        let file = LogFileWriter::default();
        let gate = Gate::default();
        let (stderr, stderr_worker) = non_blocking(io::stderr());
        let stderr_dropped = stderr.error_counter();
        let (off, file_filter) = reload::Layer::new(Targets::new());
        let file_layer = fmt::layer()
            .event_format(format.clone())
            .with_writer(file.clone())
            .with_ansi(false);
        let file_layer = gate.before(file_layer).with_filter(off);
        let (off, stderr_filter) = reload::Layer::new(Targets::new());
        let stderr_layer = fmt::layer()
            .event_format(format.clone())
            .with_writer(stderr)
            .with_ansi(false)
            .with_filter(off);
        tracing_subscriber::registry()
            // A list, because the reloaded filters of nested layers do not combine.
            .with(vec![file_layer.boxed(), stderr_layer.boxed()])
            .try_init()
            .map_err(|error| Failure::failed(format!("the log cannot be started: {error}")))?;
        let log = Self {
            override_level,
            format,
            file,
            gate,
            file_filter,
            stderr_filter,
            stderr_dropped,
            _stderr_worker: stderr_worker,
        };
        log.apply(opened);
        Ok(log)
    }

    /// Registers `log_lines_dropped`.
    pub(crate) fn register(&self, metrics: &mut Metrics) {
        metrics.register_collector(Box::new(DroppedLines {
            lost: self.file.lost().clone(),
            file: self.file.clone(),
            stderr: self.stderr_dropped.clone(),
        }));
    }

    /// Applies another config without losing a line. Waits for the disk.
    pub(crate) fn apply(&self, opened: OpenLog) {
        let level = filter::level(opened.config.level, self.override_level.as_deref());
        let path_before = self.file.path();
        // Without a file stderr is the log; beside a file it shows urgent lines.
        let (on_file, on_stderr) = match &opened.file {
            Some(_) => (filter::log(level), filter::urgent(level)),
            None => (Targets::new(), filter::log(level)),
        };
        let is_closed = opened.file.is_none();
        match opened.file.map(|file| self.file.continue_with(file)) {
            None => self.format.set(opened.config.format),
            Some(None) => {}
            Some(Some(file)) => {
                // Before the gate is closed, since a panic would log a line through it.
                let next = self.file.prepare(file);
                let shut = self.gate.shut();
                self.format.set(opened.config.format);
                let former = self.file.open(next);
                drop(shut);
                // After the gate is open again, since the writer thread may log a line.
                drop(former);
            }
        }
        // These fail only when the subscriber is gone.
        let _ = self.file_filter.reload(on_file);
        let _ = self.stderr_filter.reload(on_stderr);
        if is_closed {
            drop(self.file.close());
        }
        if let Some(path) = self
            .file
            .path()
            .filter(|path| path_before.as_ref() != Some(path))
        {
            tracing::info!(target: READY, "logging to {}", path.display());
        }
        if let Some(error) = opened.trouble {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "The log file cannot be written; logging to stderr. Check Log.LogPath and its permissions"
            );
        }
    }
}

impl Drop for Log {
    /// The subscriber outlives the log and holds the writer, so waiting lines are written now.
    fn drop(&mut self) {
        drop(self.file.close());
    }
}
