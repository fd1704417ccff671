//! File under an overlay: changes stay in memory until they are accepted, and the first failure is remembered.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

use crate::store::fault::{Failure, Fault};

/// File whose changes stay in memory until [`accept`](Self::accept) is called.
///
/// redb writes to a file when it opens it, and repairs it after a crash. The overlay leaves the store of another key as
/// it was.
#[derive(Clone)]
pub(crate) struct OverlayFile(Arc<Inner>);

struct Inner {
    file: Arc<dyn StorageBackend>,
    locking: Locking,
    held_back: Mutex<Option<Changes>>,
    /// First failure.
    failure: Mutex<Option<Failure>>,
    /// Whether every call fails from now on.
    is_shut: AtomicBool,
}

/// Lock that redb gets on the file where it asks for an exclusive one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Locking {
    Exclusive,
    /// For a file that cannot be written: such a file cannot be locked exclusively.
    Shared,
    /// For a view beside the database that has the file open.
    None,
}

/// Changes held back.
struct Changes {
    steps: Vec<Step>,
    /// Length of the file with these changes.
    length: u64,
}

enum Step {
    Write(u64, Vec<u8>),
    SetLength(u64),
    Sync,
}

impl OverlayFile {
    pub(crate) fn new(file: Arc<dyn StorageBackend>, locking: Locking) -> io::Result<Self> {
        let length = file.len()?;
        Ok(Self(Arc::new(Inner {
            file,
            locking,
            held_back: Mutex::new(Some(Changes {
                steps: Vec::new(),
                length,
            })),
            failure: Mutex::default(),
            is_shut: AtomicBool::new(false),
        })))
    }

    /// Returns the file as it is now, for a second reader. Valid until the next write.
    pub(crate) fn view(&self) -> io::Result<Self> {
        Self::new(Arc::clone(&self.0.file), Locking::None)
    }

    fn do_write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.noted(self.0.file.write(offset, data))
    }

    fn do_set_len(&self, length: u64) -> io::Result<()> {
        self.noted(self.0.file.set_len(length))
    }

    /// Makes every call fail, except those that release the file.
    pub(crate) fn shut(&self) {
        self.0.is_shut.store(true, Ordering::Release);
    }

    fn check_open(&self) -> io::Result<()> {
        if self.0.is_shut.load(Ordering::Acquire) {
            Err(io::Error::other("the file is shut"))
        } else {
            Ok(())
        }
    }

    fn lockable(&self) -> Result<&dyn StorageBackend, BackendError> {
        match self.0.locking {
            Locking::None => Err(BackendError::Unsupported),
            _ => Ok(&*self.0.file),
        }
    }

    /// Classifies an error: a failure of the medium if the file reported one, otherwise damage. An error or panic of redb
    /// after the file has failed says nothing about the contents.
    pub(crate) fn classified<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        result.map_err(|fault| match (self.failure().clone(), fault) {
            (Some(failure), _) => Fault::Failed(failure),
            (None, Fault::Failed(failure)) => Fault::Damaged(failure.cause),
            (None, fault) => fault,
        })
    }

    fn failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.0
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an error of the medium.
    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && let Fault::Failed(failure) = Fault::from(io::Error::from(error.kind()))
        {
            self.failure().get_or_insert(Failure {
                cause: error.to_string(),
                ..failure
            });
        }
        result
    }

    /// Applies the changes held back so far, in order. Later changes are applied at once.
    pub(crate) fn accept(&self) -> io::Result<()> {
        let mut held_back = self.held_back();
        for step in held_back.iter().flat_map(|changes| &changes.steps) {
            match step {
                Step::Write(offset, data) => self.do_write(*offset, data),
                Step::SetLength(length) => self.do_set_len(*length),
                Step::Sync => self.noted(self.0.file.sync_data()),
            }?;
        }
        *held_back = None;
        Ok(())
    }

    fn held_back(&self) -> MutexGuard<'_, Option<Changes>> {
        self.0
            .held_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the step back, or returns it if changes are accepted.
    fn take(&self, step: Step) -> Option<Step> {
        match &mut *self.held_back() {
            None => Some(step),
            Some(changes) => {
                changes.length = match &step {
                    Step::Write(offset, data) => {
                        changes.length.max(offset.saturating_add(data.len() as u64))
                    }
                    Step::SetLength(length) => *length,
                    Step::Sync => changes.length,
                };
                changes.steps.push(step);
                None
            }
        }
    }
}

impl Changes {
    /// Reads the bytes at `offset` as if the steps had been applied.
    fn read(&self, file: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.saturating_add(out.len() as u64);
        if end > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.fill(0);
        let there = file.len()?.saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(out.len());
        if let Some(old) = out.get_mut(..there)
            && !old.is_empty()
        {
            file.read(offset, old)?;
        }
        for step in &self.steps {
            match step {
                Step::Write(at, data) => overlay(offset, out, *at, data),
                Step::SetLength(length) => {
                    let kept = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
                    out.iter_mut().skip(kept).for_each(|byte| *byte = 0);
                }
                Step::Sync => {}
            }
        }
        Ok(())
    }
}

/// Copies the part of `data`, which lies at `at`, that falls into `out`, which lies at `offset`.
fn overlay(offset: u64, out: &mut [u8], at: u64, data: &[u8]) {
    let apart = |from: u64, to: u64| usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
    let source = data.iter().skip(apart(at, offset));
    let target = out.iter_mut().skip(apart(offset, at));
    for (to, from) in target.zip(source) {
        *to = *from;
    }
}

impl StorageBackend for OverlayFile {
    fn len(&self) -> io::Result<u64> {
        self.check_open()?;
        match &*self.held_back() {
            Some(changes) => Ok(changes.length),
            None => self.noted(self.0.file.len()),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check_open()?;
        let held_back = self.held_back();
        if let Some(changes) = &*held_back {
            return self.noted(changes.read(&*self.0.file, offset, out));
        }
        // Concurrent reads do not wait for one another.
        drop(held_back);
        self.noted(self.0.file.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_open()?;
        match self.take(Step::SetLength(len)) {
            Some(_) => self.do_set_len(len),
            None => Ok(()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check_open()?;
        match self.take(Step::Sync) {
            Some(_) => self.noted(self.0.file.sync_data()),
            None => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check_open()?;
        if self.held_back().is_none() {
            return self.do_write(offset, data);
        }
        match self.take(Step::Write(offset, data.to_vec())) {
            Some(_) => self.do_write(offset, data),
            None => Ok(()),
        }
    }

    fn close(&self) -> io::Result<()> {
        match self.0.locking {
            // To close the file would release the locks of the database that has it open.
            Locking::None => Ok(()),
            _ => self.0.file.close(),
        }
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        match self.0.locking {
            Locking::Exclusive => self.0.file.try_lock_range(start, end),
            Locking::Shared => self.0.file.try_lock_shared_range(start, end),
            Locking::None => Ok(true),
        }
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.lockable()?.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.lockable()?.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.lockable()?.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        match self.0.locking {
            Locking::None => Ok(()),
            _ => self.0.file.unlock_range(start, end),
        }
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.lockable()?.query_lock_range(start, end)
    }
}

impl fmt::Debug for OverlayFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TentativeFile")
            .field("accepted", &self.held_back().is_none())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::path::Path;

    use super::*;
    use crate::store::file::medium::{FileSystem, Medium};

    fn open(path: &Path) -> OverlayFile {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        OverlayFile::new(FileSystem.open(file).unwrap().into(), Locking::Exclusive).unwrap()
    }

    fn all(file: &OverlayFile) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn changes_are_seen_at_once_and_made_when_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"0123456789").unwrap();
        let file = open(&path);
        file.write(2, b"ab").unwrap();
        file.set_len(6).unwrap();
        file.set_len(9).unwrap();
        file.write(8, b"xyz").unwrap();
        file.sync_data().unwrap();
        let expected = b"01ab45\0\0xyz";
        assert_eq!(all(&file), expected);
        let mut part = [0; 4];
        file.read(1, &mut part).unwrap();
        assert_eq!(&part, b"1ab4");
        assert!(file.read(9, &mut part).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"0123456789");

        file.accept().unwrap();
        assert_eq!(fs::read(&path).unwrap(), expected);
        file.write(0, b"!").unwrap();
        assert_eq!(fs::read(&path).unwrap()[0], b'!');
        assert_eq!(all(&file)[..2], *b"!1");
    }

    #[test]
    fn changes_that_are_never_accepted_leave_the_file_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"theirs").unwrap();
        let file = open(&path);
        file.write(0, b"ours").unwrap();
        file.set_len(0).unwrap();
        file.close().unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
    }
}
