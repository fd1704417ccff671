//! Failure of the medium at any step: readers are served from memory, nothing durable is lost or damaged, and
//! everything is written once the medium works again.

use kms_agent_test_support::{Dice, times};
use rustix::io::Errno;

use super::faulty::{FaultyMedium, Planned, Step};
use super::*;

/// Entries that were durable before anything failed, so that only the store has them.
const OLD: u32 = 30;
const CAPACITY: usize = 100;

fn open_on(folder: &TempDir, medium: &FaultyMedium) -> Result<Store, OpenError> {
    let location = StoreLocation {
        medium: Arc::new(medium.clone()),
        ..location_in(folder)
    };
    Store::open(location, NonZeroUsize::new(CAPACITY).unwrap()).map(|started| started.store)
}

/// Changes made to a store, and those known to be durable.
#[derive(Debug, Default)]
struct Done {
    put: Vec<u32>,
    durable: Vec<u32>,
    removed: Vec<u32>,
    gone: Vec<u32>,
}

/// Works with a store that may fail at any time.
async fn work(store: &Store) -> Done {
    let mut done = Done::default();
    for n in 0..8 {
        let new = OLD + n;
        put(store, new);
        done.put.push(new);
        // An old entry, perhaps from the store.
        let _ = store.find(&hash(2 * n), LIFETIME.fetched_at).await;
        if n % 3 == 2 && store.flush().await.is_ok() {
            done.durable.clone_from(&done.put);
        }
        let old = 2 * n + 1;
        done.removed.push(old);
        if matches!(store.remove(&store.sealer(), &hash(old)).await, Ok(true)) {
            done.gone.push(old);
        }
        store.sweep(Timestamp::EPOCH).await;
        for new in &done.put {
            assert!(holds(store, *new).await, "{new} is not in memory");
        }
        for old in &done.removed {
            assert!(!holds(store, *old).await, "{old} is still there");
        }
    }
    done
}

/// Copies the files as a kill would leave them now.
fn copy(folder: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("keys")).unwrap();
    fs::copy(folder.path().join("keys/key"), copy.path().join("keys/key")).unwrap();
    if folder.path().join("store").exists() {
        fs::copy(folder.path().join("store"), copy.path().join("store")).unwrap();
    }
    copy
}

fn assert_nothing_quarantined(folder: &TempDir) {
    for entry in fs::read_dir(folder.path()).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(name == "store" || name == "keys", "{name:?}");
    }
}

async fn heal(store: &Store) {
    while trouble(store).is_some() {
        store.sweep(Timestamp::EPOCH).await;
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    store.flush().await.unwrap();
}

async fn fail_and_heal(folder: TempDir, planned: Planned) {
    let medium = FaultyMedium::default();
    medium.plan(Some(planned));
    let store = open_on(&folder, &medium).unwrap();
    let file = |folder: &TempDir| location_in(folder).file();
    let created = file(&folder);
    let done = work(&store).await;
    if let Some(word) = trouble(&store) {
        let expected = match planned.error {
            Errno::NOSPC => "disk_full",
            Errno::ROFS => "read_only",
            _ => "io_error",
        };
        assert_eq!(word, expected);
    }

    // After a kill in this state, durable changes are there.
    let killed = copy(&folder);
    let later = open(&killed, CAPACITY);
    for old in &done.gone {
        assert!(!holds(&later, *old).await, "{old} was durably removed");
    }
    // On a full disk the file is removed rather than let removed entries come back.
    let was_given_up = planned.error == Errno::NOSPC && file(&folder) != created;
    if !was_given_up {
        for new in &done.durable {
            assert!(holds(&later, *new).await, "{new} was durable");
        }
        for old in (0..OLD).filter(|old| !done.removed.contains(old)) {
            assert!(holds(&later, old).await, "{old} was durable all along");
        }
    }
    later.close().await.unwrap();
    assert_nothing_quarantined(&killed);

    // The medium works again.
    medium.plan(None);
    heal(&store).await;
    let all = |n: u32| !done.removed.contains(&n);
    for n in 0..OLD + 8 {
        assert_eq!(holds(&store, n).await, all(n), "{n} once healed");
    }
    store.close().await.unwrap();
    let later = open(&folder, CAPACITY);
    for n in 0..OLD + 8 {
        assert_eq!(holds(&later, n).await, all(n), "{n} in the next process");
    }
    later.close().await.unwrap();
    assert_nothing_quarantined(&folder);
}

#[tokio::test]
async fn a_writer_that_panics_opens_the_store_again_and_loses_nothing() {
    let folder = filled().await;
    let medium = FaultyMedium::default();
    let store = open_on(&folder, &medium).unwrap();
    put(&store, OLD);
    medium.panic_at_open(1);
    report(&store, disk_full());
    until("the panic", || store.stats().store.unwrap().failures > 1).await;
    heal(&store).await;
    store.close().await.unwrap();
    let later = open(&folder, CAPACITY);
    for n in 0..=OLD {
        assert!(holds(&later, n).await, "{n} was lost");
    }
}

#[tokio::test]
async fn a_writer_that_panics_each_time_leaves_the_agent_without_its_store() {
    let folder = filled().await;
    let medium = FaultyMedium::default();
    let store = open_on(&folder, &medium).unwrap();
    medium.panic_at_open(u32::MAX);
    report(&store, disk_full());
    until("the end of it", || {
        store.shared.lock().lifecycle.out_of_reach()
    })
    .await;
    assert_eq!(trouble(&store), Some("thread_failed"));
    // No caller waits for the thread, and memory goes on.
    put(&store, OLD + 1);
    assert!(holds(&store, OLD + 1).await);
    assert!(store.remove(&store.sealer(), &hash(OLD + 1)).await.is_err());
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_unreadable_page_is_not_retried_over_and_over() {
    const PAGE: u64 = 4096;
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, 300);
    for n in 0..300 {
        put(&store, n);
    }
    store.close().await.unwrap();
    let length = fs::metadata(folder.path().join("store")).unwrap().len();
    let mut troubles = 0;
    for page in 0..length / PAGE {
        let folder = copy(&folder);
        let medium = FaultyMedium::default();
        medium.spoil(page * PAGE..(page + 1) * PAGE);
        let Ok(store) = open_on(&folder, &medium) else {
            continue;
        };
        if store.page(None, NonZeroUsize::MAX).await.is_err() {
            // Without a sweep there is no reason to try again, however long it is.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let failures = store.stats().store.unwrap().failures;
        assert!(failures < 9, "{failures} for page {page}");
        troubles += failures;
        drop(store);
    }
    assert!(troubles > 0, "no page mattered");
}

#[tokio::test]
async fn damage_that_no_listing_sees_is_found_before_the_first_write() {
    const PAGE: usize = 4096;
    let filled = filled().await;
    let whole = fs::read(filled.path().join("store")).unwrap();
    let mut found = 0;
    for page in 1..whole.len() / PAGE {
        let folder = copy(&filled);
        let mut bytes = whole.clone();
        // In a branch or a table this is part of the checksum of another page.
        bytes[page * PAGE + 20] ^= 1;
        fs::write(folder.path().join("store"), bytes).unwrap();
        let store = open(&folder, CAPACITY);
        put(&store, OLD);
        store.flush().await.unwrap();
        assert!(holds(&store, OLD).await);
        store.close().await.unwrap();
        found += fs::read_dir(folder.path()).unwrap().count() - 2;
    }
    assert!(found > 0, "no page mattered");
}

/// A closed store with entries in it.
async fn filled() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, CAPACITY);
    for n in 0..OLD {
        put(&store, n);
    }
    store.close().await.unwrap();
    folder
}

#[tokio::test]
async fn nothing_durable_is_lost_whichever_step_fails_and_the_rest_is_written_later() {
    let filled = filled().await;
    // The number of steps without a fault.
    let medium = FaultyMedium::default();
    let folder = copy(&filled);
    let store = open_on(&folder, &medium).unwrap();
    work(&store).await;
    let steps = medium.taken();
    store.close().await.unwrap();

    let mut dice = Dice::from_env();
    for n in 0..times("KMS_AGENT_TEST_SEEDS", 40) {
        let planned = Planned {
            from: dice.below(steps),
            only: dice.pick(&[
                None,
                Some(Step::Read),
                Some(Step::Write),
                Some(Step::SetLength),
                Some(Step::Sync),
            ]),
            error: dice.pick(&[Errno::IO, Errno::NOSPC, Errno::ROFS]),
            tears: dice.percent(50),
        };
        eprintln!("{n}: {planned:?}");
        fail_and_heal(copy(&filled), planned).await;
    }
}
