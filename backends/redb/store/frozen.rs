//! The file as it was at one moment, to be read in peace while others write to it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

/// What is kept of what was overwritten. Who writes more than this while somebody reads ends the reading.
const KEPT_BYTES: usize = 16 << 20;

/// What is about to be overwritten is kept before, so that readers find it as it was.
pub(crate) struct Frozen {
    file: Arc<dyn StorageBackend>,
    length: u64,
    /// What was overwritten since, by where it lay. Pieces do not overlap. `None`: it is over.
    kept: Mutex<Option<BTreeMap<u64, Vec<u8>>>>,
    /// Called before anything is read: readers of the store go first.
    give_way: Box<dyn Fn() + Send + Sync>,
}

impl Frozen {
    pub(crate) fn new(
        file: Arc<dyn StorageBackend>,
        give_way: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let length = file.len()?;
        Ok(Self {
            file,
            length,
            kept: Mutex::new(Some(BTreeMap::new())),
            give_way: Box::new(give_way),
        })
    }

    /// Keeps what is there from `from` to `to`. Whoever overwrites it does not fail by it.
    pub(crate) fn keep(&self, from: u64, to: u64) {
        let mut kept = self.kept();
        let to = to.min(self.length);
        let is_kept = kept
            .as_mut()
            .is_none_or(|pieces| keep(&*self.file, pieces, from, to).is_ok());
        let size: usize = kept
            .iter()
            .flat_map(|pieces| pieces.values())
            .map(Vec::len)
            .sum();
        if !is_kept || size > KEPT_BYTES {
            *kept = None;
        }
    }

    /// From now on nothing can be read.
    pub(crate) fn end(&self) {
        *self.kept() = None;
    }

    /// Whether it could be read to the end.
    pub(crate) fn is_over(&self) -> bool {
        self.kept().is_none()
    }

    fn kept(&self) -> MutexGuard<'_, Option<BTreeMap<u64, Vec<u8>>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn over() -> io::Error {
    io::Error::other("nobody keeps the file as it was any more")
}

fn keep(
    file: &dyn StorageBackend,
    pieces: &mut BTreeMap<u64, Vec<u8>>,
    from: u64,
    to: u64,
) -> io::Result<()> {
    let mut at = from;
    while at < to {
        if let Some(end) = pieces.range(..=at).next_back().map(end_of)
            && end > at
        {
            at = end;
            continue;
        }
        let next = pieces.range(at..to).next().map_or(to, |(start, _)| *start);
        let mut piece = vec![0; usize::try_from(next - at).map_err(io::Error::other)?];
        file.read(at, &mut piece)?;
        pieces.insert(at, piece);
        at = next;
    }
    Ok(())
}

fn end_of((start, piece): (&u64, &Vec<u8>)) -> u64 {
    start.saturating_add(piece.len() as u64)
}

/// Copies the part of `data`, which lies at `at`, that falls into `out`, which lies at `offset`.
pub(crate) fn overlay(offset: u64, out: &mut [u8], at: u64, data: &[u8]) {
    let apart = |from: u64, to: u64| usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
    let source = data.iter().skip(apart(at, offset));
    let target = out.iter_mut().skip(apart(offset, at));
    for (to, from) in target.zip(source) {
        *to = *from;
    }
}

impl StorageBackend for Frozen {
    fn len(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        (self.give_way)();
        if self.is_over() {
            return Err(over());
        }
        self.file.read(offset, out)?;
        // What was overwritten until just now had been kept before.
        let kept = self.kept();
        let pieces = kept.as_ref().ok_or_else(over)?;
        let end = offset.saturating_add(out.len() as u64);
        let before = pieces.range(..offset).next_back();
        for (at, piece) in before.into_iter().chain(pieces.range(offset..end)) {
            overlay(offset, out, *at, piece);
        }
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn close(&self) -> io::Result<()> {
        Ok(())
    }

    // Whoever has the file open looks after its locks.

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    fn file(bytes: &[u8]) -> Arc<dyn StorageBackend> {
        let file = InMemoryBackend::new();
        file.set_len(bytes.len() as u64).unwrap();
        file.write(0, bytes).unwrap();
        Arc::new(file)
    }

    fn overwrite(file: &Arc<dyn StorageBackend>, frozen: &Frozen, at: u64, data: &[u8]) {
        frozen.keep(at, at + data.len() as u64);
        file.write(at, data).unwrap();
    }

    fn read(frozen: &Frozen, from: u64, count: usize) -> Vec<u8> {
        let mut out = vec![0; count];
        frozen.read(from, &mut out).unwrap();
        out
    }

    #[test]
    fn what_is_overwritten_is_read_as_it_was_in_any_part() {
        let file = file(b"0123456789");
        let frozen = Frozen::new(Arc::clone(&file), || ()).unwrap();
        for (at, data) in [(2, &b"ab"[..]), (6, b"c"), (1, b"defghij"), (3, b"k")] {
            overwrite(&file, &frozen, at, data);
        }
        for from in 0..10 {
            for to in from..=10 {
                let expected = b"0123456789"[from..to].to_vec();
                assert_eq!(read(&frozen, from as u64, to - from), expected);
            }
        }
        let mut now = [0; 10];
        file.read(0, &mut now).unwrap();
        assert_eq!(&now, b"0dekghij89");
    }

    #[test]
    fn what_is_written_behind_its_end_is_not_there() {
        let file = file(b"0123");
        let frozen = Frozen::new(Arc::clone(&file), || ()).unwrap();
        file.set_len(9).unwrap();
        overwrite(&file, &frozen, 2, b"abcdefg");
        assert_eq!(frozen.len().unwrap(), 4);
        assert_eq!(read(&frozen, 0, 4), b"0123");
    }

    #[test]
    fn it_is_over_when_it_is_ended_or_too_much_is_overwritten() {
        let size = 2 * KEPT_BYTES;
        let file = file(&vec![7; size]);
        let frozen = Frozen::new(Arc::clone(&file), || ()).unwrap();
        frozen.keep(0, KEPT_BYTES as u64);
        assert!(!frozen.is_over());
        frozen.keep(5, KEPT_BYTES as u64 + 1);
        assert!(frozen.is_over() && frozen.read(0, &mut [0]).is_err());

        let frozen = Frozen::new(file, || ()).unwrap();
        frozen.end();
        frozen.keep(0, 9);
        assert!(frozen.is_over());
    }
}
