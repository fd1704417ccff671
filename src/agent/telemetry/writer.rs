//! Writer of the log file, which a reload may replace.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

use super::rotate::RotatingFile;
use crate::config::LogFormat;

/// Interval between log lines about a disk that stays full: short lines may still fit at times.
const TELL_AGAIN: Duration = Duration::from_mins(1);

/// Number of lines that may wait to be written. More are dropped and counted, so that no request waits for a disk.
const WAITING_LINES: usize = 4096;

/// Writer to the file that was opened last, if any.
#[derive(Clone, Debug, Default)]
pub(super) struct LogFileWriter {
    open: Arc<Mutex<Option<OpenFile>>>,
    lost: LostLines,
}

/// A file with the thread that writes it.
#[derive(Debug)]
pub(super) struct OpenFile {
    writer: NonBlocking,
    worker: WorkerGuard,
    path: PathBuf,
    format: LogFormat,
    /// Locked by the thread during a write.
    file: Arc<Mutex<RotatingFile>>,
}

/// Writer of a file that is no longer used. Dropping it writes the waiting lines, which takes a while.
#[must_use]
#[derive(Debug)]
pub(super) struct RetiredFile(#[expect(dead_code, reason = "it is dropped")] Option<WorkerGuard>);

impl LogFileWriter {
    /// Continues with `file` if it is the same file, opened again. Returns any other file.
    pub(super) fn continue_with(&self, file: RotatingFile) -> Option<RotatingFile> {
        let former = match &*self.lock() {
            Some(open) if open.path == file.path() && open.format == file.format() => {
                Arc::clone(&open.file)
            }
            _ => return Some(file),
        };
        // Without the lock that every logging thread needs, since the disk may be slow.
        *locked(&former) = file;
        None
    }

    /// Starts the thread that writes `file`. Panics before any change if no thread can be created.
    pub(super) fn prepare(&self, file: RotatingFile) -> OpenFile {
        let (path, format) = (file.path().to_owned(), file.format());
        let file = Arc::new(Mutex::new(file));
        let (writer, worker) = non_blocking(CountingWriter {
            file: Arc::clone(&file),
            lost: self.lost.clone(),
            told_at: None,
        });
        OpenFile {
            writer,
            worker,
            path,
            format,
            file,
        }
    }

    /// Writes to `next` from now on. Lines that wait for the previous file are still written there.
    pub(super) fn open(&self, next: OpenFile) -> RetiredFile {
        let former = self.lock().replace(next);
        self.retire(former)
    }

    /// Writes to no file from now on.
    pub(super) fn close(&self) -> RetiredFile {
        let former = self.lock().take();
        self.retire(former)
    }

    fn retire(&self, former: Option<OpenFile>) -> RetiredFile {
        RetiredFile(former.map(|former| {
            self.lost.add(dropped(&former.writer.error_counter()));
            former.worker
        }))
    }

    /// Returns the path of the file.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.lock().as_ref().map(|open| open.path.clone())
    }

    /// Returns the count of lines lost to disk errors, and of lines dropped for earlier files.
    pub(super) fn lost(&self) -> &LostLines {
        &self.lost
    }

    /// Returns the number of lines dropped for the current file.
    pub(super) fn dropped(&self) -> u64 {
        self.lock()
            .as_ref()
            .map_or(0, |open| dropped(&open.writer.error_counter()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<OpenFile>> {
        locked(&self.open)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> MakeWriter<'a> for LogFileWriter {
    type Writer = LogLineWriter;

    fn make_writer(&'a self) -> LogLineWriter {
        LogLineWriter(self.lock().as_ref().map(|open| open.writer.clone()))
    }
}

/// File whose errors only lose lines, which are counted.
struct CountingWriter {
    file: Arc<Mutex<RotatingFile>>,
    lost: LostLines,
    /// Time of the last log line about lost lines.
    told_at: Option<Instant>,
}

impl io::Write for CountingWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let result = locked(&self.file).write(line);
        if let Err(error) = result {
            self.lost.add(1);
            if self.told_at.is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
                self.told_at = Some(Instant::now());
                // For stderr; the file may lose this line too.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "The log file cannot be written; lines are lost and counted until it can"
                );
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        locked(&self.file).flush()
    }
}

/// Writer of one line.
#[derive(Debug)]
pub(super) struct LogLineWriter(Option<NonBlocking>);

impl io::Write for LogLineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Some(writer) => writer.write(line),
            None => Ok(line.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), io::Write::flush)
    }
}

/// Count of lines lost to a full or failing disk. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct LostLines(Arc<AtomicU64>);

impl LostLines {
    pub(super) fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(super) fn non_blocking(writer: impl io::Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_LINES)
        .thread_name("log")
        .finish(writer)
}

pub(super) fn dropped(counter: &ErrorCounter) -> u64 {
    u64::try_from(counter.dropped_lines()).unwrap_or(u64::MAX)
}
