//! The way to the log file, which a reload may lead elsewhere.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

use super::dropped::{Lost, dropped};
use super::non_blocking;
use super::rotate::RotatingFile;

/// A disk that stays full is told of this often: short lines may still fit now and then.
const TELL_AGAIN: Duration = Duration::from_mins(1);

/// Writes to the file that was opened last, or nowhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlet {
    open: Arc<Mutex<Option<(NonBlocking, WorkerGuard)>>>,
    lost: Lost,
}

impl Outlet {
    /// Leads to `file` from now on. What waits for the old one is written first.
    pub(super) fn open(&self, file: RotatingFile) {
        self.replace(Some(non_blocking(Faultless {
            file,
            lost: self.lost.clone(),
            told_at: None,
        })));
    }

    /// Leads nowhere from now on. What waits is written first.
    pub(super) fn close(&self) {
        self.replace(None);
    }

    fn replace(&self, next: Option<(NonBlocking, WorkerGuard)>) {
        let old = std::mem::replace(&mut *self.lock(), next);
        // Outside the lock: the guard waits for its worker.
        if let Some((writer, worker)) = old {
            drop(worker);
            self.lost.add(dropped(&writer.error_counter()));
        }
    }

    /// The lines that the disk has cost, and those that an earlier file had no time for.
    pub(super) fn lost(&self) -> &Lost {
        &self.lost
    }

    /// The lines that the present file had no time for.
    pub(super) fn dropped(&self) -> u64 {
        self.lock()
            .as_ref()
            .map_or(0, |(writer, _)| dropped(&writer.error_counter()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(NonBlocking, WorkerGuard)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> MakeWriter<'a> for Outlet {
    type Writer = OutletWriter;

    fn make_writer(&'a self) -> OutletWriter {
        OutletWriter(self.lock().as_ref().map(|(writer, _)| writer.clone()))
    }
}

/// A file whose faults cost lines, which are counted, and nothing else.
struct Faultless {
    file: RotatingFile,
    lost: Lost,
    /// When it was last told that lines are lost.
    told_at: Option<Instant>,
}

impl io::Write for Faultless {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.file.write(line) {
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
        self.file.flush()
    }
}

/// For one line.
#[derive(Debug)]
pub(super) struct OutletWriter(Option<NonBlocking>);

impl io::Write for OutletWriter {
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
