//! The way to the log file, which a reload may lead elsewhere.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

use super::non_blocking;
use super::rotate::RotatingFile;

/// Writes to the file that was opened last, or nowhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlet(Arc<Mutex<Option<(NonBlocking, WorkerGuard)>>>);

impl Outlet {
    /// Leads to `file` from now on. What waits for the old one is written first.
    pub(super) fn open(&self, file: RotatingFile) {
        self.replace(Some(non_blocking(file)));
    }

    /// Leads nowhere from now on. What waits is written first.
    pub(super) fn close(&self) {
        self.replace(None);
    }

    fn replace(&self, next: Option<(NonBlocking, WorkerGuard)>) {
        let old = std::mem::replace(&mut *self.lock(), next);
        // Outside the lock: the guard waits for its worker.
        drop(old);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(NonBlocking, WorkerGuard)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> MakeWriter<'a> for Outlet {
    type Writer = OutletWriter;

    fn make_writer(&'a self) -> OutletWriter {
        OutletWriter(self.lock().as_ref().map(|(writer, _)| writer.clone()))
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
