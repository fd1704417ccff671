//! A file system that fails from a certain step on.

use std::fs::File;
use std::io;
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::sync::Mutex;

use redb::{BackendError, StorageBackend};
use rustix::io::Errno;

use crate::store::file::medium::{FileSystem, Medium};

/// Files on it fail as planned. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct FaultyMedium(Arc<Mutex<Plan>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Read,
    Write,
    SetLength,
    Sync,
}

#[derive(Debug, Default)]
struct Plan {
    /// Steps so far.
    taken: u64,
    fault: Option<Planned>,
    /// Unreadable range.
    bad: Option<Range<u64>>,
    /// Number of further openings that panic.
    panics: u32,
}

/// Fault: first step, kind of step and error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) from: u64,
    /// Kind of step that fails; `None`: every kind.
    pub(super) only: Option<Step>,
    pub(super) error: Errno,
    /// Whether the first failing write writes half of its data.
    pub(super) tears: bool,
}

impl FaultyMedium {
    /// Number of steps taken.
    pub(super) fn taken(&self) -> u64 {
        self.0.lock().unwrap().taken
    }

    /// Sets or clears the fault.
    pub(super) fn plan(&self, fault: Option<Planned>) {
        self.0.lock().unwrap().fault = fault;
    }

    /// Makes the next `times` openings panic.
    pub(super) fn panic_at_open(&self, times: u32) {
        self.0.lock().unwrap().panics = times;
    }

    /// Makes one range unreadable for good.
    pub(super) fn spoil(&self, bad: Range<u64>) {
        self.0.lock().unwrap().bad = Some(bad);
    }

    fn is_bad(&self, from: u64, to: u64) -> bool {
        let plan = self.0.lock().unwrap();
        plan.bad
            .as_ref()
            .is_some_and(|bad| from < bad.end && bad.start < to)
    }

    fn take(&self, step: Step) -> Result<(), Planned> {
        let mut plan = self.0.lock().unwrap();
        plan.taken += 1;
        match plan.fault {
            Some(planned)
                if plan.taken > planned.from && planned.only.is_none_or(|only| only == step) =>
            {
                if let Some(fault) = &mut plan.fault {
                    fault.tears = false;
                }
                Err(planned)
            }
            _ => Ok(()),
        }
    }
}

impl Medium for FaultyMedium {
    fn open(&self, file: File) -> io::Result<Box<dyn StorageBackend>> {
        let panics = {
            let mut plan = self.0.lock().unwrap();
            let panics = plan.panics > 0;
            plan.panics = plan.panics.saturating_sub(1);
            panics
        };
        assert!(!panics, "the medium panics as planned");
        Ok(Box::new(FaultyFile {
            medium: self.clone(),
            file: FileSystem.open(file)?,
        }))
    }
}

#[derive(Debug)]
struct FaultyFile {
    medium: FaultyMedium,
    file: Box<dyn StorageBackend>,
}

impl FaultyFile {
    fn take(&self, step: Step) -> io::Result<()> {
        self.medium
            .take(step)
            .map_err(|planned| planned.error.into())
    }
}

impl StorageBackend for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.take(Step::Read)?;
        if self.medium.is_bad(offset, offset + out.len() as u64) {
            return Err(Errno::IO.into());
        }
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.take(Step::SetLength)?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.take(Step::Sync)?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.medium.take(Step::Write) {
            Ok(()) => self.file.write(offset, data),
            Err(planned) => {
                if planned.tears {
                    let (half, _) = data.split_at(data.len() / 2);
                    self.file.write(offset, half)?;
                }
                Err(planned.error.into())
            }
        }
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
