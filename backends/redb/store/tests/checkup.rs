//! The check after a start, on a disk so slow that it gets nowhere: everything else goes on.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::{Condvar, Mutex};
use std::thread;

use redb::{BackendError, StorageBackend};

use super::*;
use crate::store::medium::Medium;

const ENTRIES: u32 = 300;

/// Whoever checks the file stops here until it is opened.
#[derive(Clone, Debug, Default)]
struct Gate(Arc<(Mutex<Passing>, Condvar)>);

#[derive(Debug, Default)]
struct Passing {
    is_open: bool,
    has_come: bool,
}

impl Gate {
    fn open(&self) {
        self.0.0.lock().unwrap().is_open = true;
        self.0.1.notify_all();
    }

    fn has_come(&self) -> bool {
        self.0.0.lock().unwrap().has_come
    }

    fn pass(&self) {
        if thread::current().name() == Some("kms-store-check") {
            let mut passing = self.0.0.lock().unwrap();
            passing.has_come = true;
            drop(self.0.1.wait_while(passing, |passing| !passing.is_open));
        }
    }
}

impl Medium for Gate {
    fn open(&self, file: File) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(GatedFile {
            gate: self.clone(),
            file: FileSystem.open(file)?,
        }))
    }
}

#[derive(Debug)]
struct GatedFile {
    gate: Gate,
    file: Box<dyn StorageBackend>,
}

impl StorageBackend for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        // The head it may read: it is what is written most often.
        if offset > 0 {
            self.gate.pass();
        }
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

/// A store whose check is stuck half-way.
async fn open_gated(folder: &TempDir) -> (Store, Gate) {
    let gate = Gate::default();
    let place = Place {
        medium: Arc::new(gate.clone()),
        ..place_in(folder)
    };
    let started = Store::open(place, NonZeroUsize::new(1000).unwrap()).unwrap();
    until("it is being checked", || gate.has_come()).await;
    (started.store, gate)
}

async fn filled() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, 1000);
    for n in 0..ENTRIES {
        put(&store, n);
    }
    store.close().await.unwrap();
    folder
}

fn set_aside(folder: &TempDir) -> usize {
    fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().is_file())
        .count()
        - 1
}

#[tokio::test]
async fn a_check_that_takes_its_time_delays_no_read_no_write_no_removal_and_no_end() {
    let folder = filled().await;
    let (store, gate) = open_gated(&folder).await;
    put(&store, ENTRIES);
    store.flush().await.unwrap();
    assert!(store.remove(&store.sealer(), &place(1)).await.unwrap());
    assert!(holds(&store, 0).await && !holds(&store, 1).await);
    put(&store, ENTRIES + 1);
    store.close().await.unwrap();

    let later = open(&folder, 1000);
    for (n, expected) in [(0, true), (1, false), (ENTRIES, true), (ENTRIES + 1, true)] {
        assert_eq!(holds(&later, n).await, expected, "{n}");
    }
    gate.open();
    assert_eq!(set_aside(&folder), 0);
}

#[tokio::test]
async fn everything_may_be_purged_meanwhile() {
    let folder = filled().await;
    let (store, _gate) = open_gated(&folder).await;
    store.clear().await.unwrap();
    put(&store, 7);
    store.close().await.unwrap();
    let later = open(&folder, 1000);
    assert!(holds(&later, 7).await && !holds(&later, 8).await);
}

#[tokio::test]
async fn a_whole_file_is_found_whole_whatever_is_written_while_it_is_read() {
    let folder = filled().await;
    let (store, gate) = open_gated(&folder).await;
    for n in 0..ENTRIES {
        put(&store, 2 * n);
        if n % 10 == 0 {
            store.flush().await.unwrap();
        }
    }
    store.flush().await.unwrap();
    gate.open();
    until("the check has ended", || {
        Arc::strong_count(&store.shared) == 3
    })
    .await;
    put(&store, 1);
    store.flush().await.unwrap();
    assert_eq!(store.stats().store.unwrap().failures, 0);
    store.close().await.unwrap();
    assert_eq!(set_aside(&folder), 0);
}

#[tokio::test]
async fn damage_is_found_after_something_was_written_and_costs_nothing_of_that() {
    let folder = filled().await;
    // Bytes that neither opening nor listing looks at: the checksum of a page, in whoever points to it.
    let path = folder.path().join("store");
    let whole = fs::read(&path).unwrap();
    let mut found = 0;
    for page in 1..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096 + 20] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let (store, gate) = {
            let gate = Gate::default();
            let place = Place {
                medium: Arc::new(gate.clone()),
                ..place_in(&folder)
            };
            let started = Store::open(place, NonZeroUsize::new(1000).unwrap()).unwrap();
            (started.store, gate)
        };
        put(&store, ENTRIES);
        let _ = store.flush().await;
        let removed = store.remove(&store.sealer(), &place(1)).await.is_ok();
        gate.open();
        until("the check has ended", || {
            Arc::strong_count(&store.shared) == 3
        })
        .await;
        store.flush().await.unwrap();
        assert!(holds(&store, ENTRIES).await);
        store.close().await.unwrap();
        found += set_aside(&folder);
        let later = open(&folder, 1000);
        assert!(holds(&later, ENTRIES).await);
        assert!(!removed || !holds(&later, 1).await);
        later.close().await.unwrap();
        for entry in fs::read_dir(folder.path()).unwrap() {
            let other = entry.unwrap().path();
            if other.is_file() && other != path {
                fs::remove_file(other).unwrap();
            }
        }
    }
    assert!(found > 0, "no page mattered");
}
