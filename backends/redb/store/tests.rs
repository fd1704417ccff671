//! Store under faults. Here the tests report faults as the reader thread would; in the modules below the medium fails.

mod failing;
mod faulty;

use std::fs;

use kms_agent_cache::SystemClock;
use kms_agent_sealed::key::KeySource;
use tempfile::TempDir;

use super::fault::{Failure, Fault};
use super::*;

const LIFETIME: Lifetime = Lifetime {
    fetched_at: Timestamp::from_millis(1),
    rotates_at: None,
    usable_until: Timestamp::from_millis(i64::MAX),
};

fn location_in(folder: &TempDir) -> StoreLocation {
    StoreLocation {
        path: folder.path().join("store"),
        key: KeySource::File(folder.path().join("keys/key")),
        medium: Arc::new(FileSystem),
        clock: Arc::new(SystemClock),
    }
}

fn open(folder: &TempDir, capacity: usize) -> Store {
    Store::open(location_in(folder), NonZeroUsize::new(capacity).unwrap())
        .unwrap()
        .store
}

fn hash(n: u32) -> RecordHash {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&n.to_le_bytes());
    RecordHash(hash)
}

fn scope() -> Arc<Scope> {
    Arc::new(Scope {
        endpoint: "endpoint".into(),
        identity: "identity".into(),
    })
}

/// Encodes a header with a lifetime only.
fn header() -> Vec<u8> {
    let mut header = LIFETIME.fetched_at.as_millis().to_le_bytes().to_vec();
    header.push(0);
    header.extend_from_slice(&LIFETIME.usable_until.as_millis().to_le_bytes());
    header.extend_from_slice(&[0; 8]);
    header
}

fn put(store: &Store, n: u32) {
    let sealer = store.sealer();
    let record = sealer.seal(&hash(n), &header(), b"value").unwrap();
    assert!(store.hold(&sealer, hash(n), record, &LIFETIME, &scope()));
}

async fn holds(store: &Store, n: u32) -> bool {
    store.find(&hash(n), LIFETIME.fetched_at).await.is_some()
}

fn report(store: &Store, fault: Fault) {
    let mut state = store.shared.lock();
    let opening = state.lifecycle.openings();
    state.lifecycle.reported(opening, fault);
    drop(state);
    store.shared.wake();
}

fn trouble(store: &Store) -> Option<&'static str> {
    store.stats().store.unwrap().trouble
}

fn disk_full() -> Fault {
    Fault::Failed(Failure {
        word: "disk_full",
        cause: "no space left".to_owned(),
    })
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("in vain waited until {what}");
}

#[tokio::test]
async fn a_store_in_trouble_is_still_read_and_is_written_once_it_works() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, 10);
    put(&store, 1);
    store.flush().await.unwrap();
    store.close().await.unwrap();
    let store = open(&folder, 10);
    report(&store, disk_full());
    until("there is trouble", || trouble(&store).is_some()).await;
    assert_eq!(trouble(&store), Some("disk_full"));
    until("it is open again", || {
        store.shared.lock().lifecycle.is_open()
    })
    .await;
    assert!(holds(&store, 1).await);
    put(&store, 2);
    assert!(holds(&store, 2).await);
    assert!(
        store.shared.lock().queue.len() == 1,
        "nothing is written yet"
    );

    store.sweep(Timestamp::EPOCH).await;
    until("it works", || trouble(&store).is_none()).await;
    assert!(store.shared.lock().queue.is_empty());
    assert!(holds(&store, 1).await && holds(&store, 2).await);
}

#[tokio::test]
async fn pauses_between_attempts_grow_and_are_bounded() {
    let sealer = Arc::new(Sealer::new(&RootKey::random().unwrap()));
    let mut state = State::new(NonZeroUsize::MIN, sealer);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        state.lifecycle.failed("io_error");
        let mut sweeps = 0;
        while !state.lifecycle.is_urgent() {
            state.end_sweep();
            sweeps += 1;
        }
        pauses.push(sweeps);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 32, 32]);
}

#[test]
fn a_page_is_known_as_soon_as_its_last_record_is() {
    let sealer = Arc::new(Sealer::new(&RootKey::random().unwrap()));
    let mut state = State::new(NonZeroUsize::new(9).unwrap(), sealer);
    let limit = |n| NonZeroUsize::new(n).unwrap();
    assert!(state.page(None, limit(1)).is_none());
    for n in [1, 2, 4] {
        state.map.list(hash(n), [0; 4].into(), &LIFETIME);
    }
    state.index = state::Index::Reading {
        after: Some(hash(2)),
        left: 9,
    };
    assert_eq!(state.page(None, limit(2)).unwrap().len(), 2);
    // Record 3 may exist.
    assert!(state.page(None, limit(3)).is_none());
    assert!(state.page(Some(&hash(2)), limit(1)).is_none());
    state.index = state::Index::Complete;
    assert_eq!(state.page(Some(&hash(2)), limit(5)).unwrap().len(), 1);
}

#[tokio::test]
async fn damage_while_it_runs_costs_nothing_that_memory_has() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, 10);
    put(&store, 1);
    put(&store, 2);
    store.flush().await.unwrap();
    report(&store, Fault::Damaged("a test says so".to_owned()));
    put(&store, 3);
    store.flush().await.unwrap();
    let quarantined = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("store.corrupt-"))
        .count();
    assert_eq!(quarantined, 1);
    assert_eq!(trouble(&store), None);
    store.close().await.unwrap();

    let later = open(&folder, 10);
    for n in 1..=3 {
        assert!(holds(&later, n).await, "{n} is gone");
    }
    let limit = NonZeroUsize::new(10).unwrap();
    assert_eq!(later.page(None, limit).await.unwrap().len(), 3);
}

#[tokio::test]
async fn writes_that_wait_for_an_absent_store_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("keys")).unwrap();
    // Nothing can be created below a file.
    let blocked = folder.path().join("blocked");
    fs::write(&blocked, b"").unwrap();
    let location = StoreLocation {
        path: blocked.join("store"),
        ..location_in(&folder)
    };
    let store = Store::open(location, NonZeroUsize::new(10).unwrap())
        .unwrap()
        .store;
    for n in 0..5000 {
        put(&store, n);
    }
    assert!(store.shared.lock().queue.len() < 1100);
    assert!(holds(&store, 4999).await);

    fs::remove_file(&blocked).unwrap();
    store.flush().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_purge_that_failed_is_repeated_and_spares_later_entries() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, 10);
    put(&store, 1);
    store.flush().await.unwrap();
    {
        // The medium fails while the purge waits.
        let mut state = store.shared.lock();
        state.clear();
        state.lifecycle.failed("io_error");
    }
    put(&store, 2);
    assert!(!holds(&store, 1).await);
    store.flush().await.unwrap();
    assert!(holds(&store, 2).await);
    store.close().await.unwrap();
    let later = open(&folder, 10);
    assert!(!holds(&later, 1).await);
    assert!(holds(&later, 2).await);
}
