//! The way to the log file, which a reload may lead elsewhere.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

use super::rotate::RotatingFile;
use crate::config::LogFormat;

/// A disk that stays full is told of this often: short lines may still fit now and then.
const TELL_AGAIN: Duration = Duration::from_mins(1);

/// Lines that may wait to be written; more are dropped and counted, so that no request ever waits for a disk.
const WAITING_LINES: usize = 4096;

/// Writes to the file that was opened last, or nowhere.
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
    /// The file itself, which the thread keeps locked while the disk takes a line.
    file: Arc<Mutex<RotatingFile>>,
}

/// The way to a file that is no longer used. Dropping it writes what waits, which takes a while.
#[must_use]
#[derive(Debug)]
pub(super) struct RetiredFile(#[expect(dead_code, reason = "it is dropped")] Option<WorkerGuard>);

impl LogFileWriter {
    /// Takes `file` for the one that it leads to, where that is the same file opened again. Returns any other one.
    pub(super) fn continue_with(&self, file: RotatingFile) -> Option<RotatingFile> {
        let former = match &*self.lock() {
            Some(open) if open.path == file.path() && open.format == file.format() => {
                Arc::clone(&open.file)
            }
            _ => return Some(file),
        };
        // Without the lock that every logging thread needs: the disk may take its time.
        *locked(&former) = file;
        None
    }

    /// Starts the thread that writes `file`. Panics where no thread can be made, with nothing changed.
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

    /// Leads to `next` from now on. What waits for the former file is still written there.
    pub(super) fn open(&self, next: OpenFile) -> RetiredFile {
        let former = self.lock().replace(next);
        self.retire(former)
    }

    /// Leads nowhere from now on.
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

    /// The path of the file.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.lock().as_ref().map(|open| open.path.clone())
    }

    /// The lines that the disk has cost, and those that an earlier file had no time for.
    pub(super) fn lost(&self) -> &LostLines {
        &self.lost
    }

    /// The lines that the present file had no time for.
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

/// A file whose faults cost lines, which are counted, and nothing else.
struct CountingWriter {
    file: Arc<Mutex<RotatingFile>>,
    lost: LostLines,
    /// When it was last told that lines are lost.
    told_at: Option<Instant>,
}

impl io::Write for CountingWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let result = locked(&self.file).write(line);
        if let Err(error) = result {
            self.lost.add(1);
            if self.told_at.is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
                self.told_at = Some(Instant::now());
                // For stderr; for the file it is one more line.
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

/// For one line.
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

/// Counts lines that a full or failing disk has cost. Clones count together.
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
