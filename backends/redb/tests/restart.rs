//! Contents and modes of the files, and the state that the next process finds.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use self::support::{
    Folder, NOW, configure, entry, entry_fetched, key, names, put, store_stats, sweep_until_healed,
    value,
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[tokio::test]
async fn what_was_flushed_survives_a_kill_with_its_scope() {
    let folder = Folder::default();
    let backend = folder.open().await.unwrap();
    for n in 0..20 {
        put(&backend, &format!("s{n}")).await;
    }
    backend.flush().await.unwrap();
    let later = folder.as_after_a_kill().open().await.unwrap();
    assert_eq!(later.info().resumed.unwrap().scope, key("s0").scope);
    for n in (0..20).rev() {
        let name = format!("s{n}");
        assert_eq!(value(&later, &name).await, Some(name.into_bytes()));
    }
    assert_eq!(names(&later).await.len(), 20);
}

#[tokio::test]
async fn what_was_removed_stays_away_after_a_kill() {
    let folder = Folder::default();
    let backend = folder.open().await.unwrap();
    put(&backend, "gone").await;
    put(&backend, "kept").await;
    backend.flush().await.unwrap();
    backend.remove(&key("gone")).await.unwrap();
    let later = folder.as_after_a_kill().open().await.unwrap();
    assert_eq!(value(&later, "gone").await, None);
    assert_eq!(names(&later).await, ["kept"]);
    backend.clear().await.unwrap();
    let later = folder.as_after_a_kill().open().await.unwrap();
    assert_eq!(names(&later).await, [""; 0]);
}

#[tokio::test]
async fn a_write_is_committed_soon_without_being_asked_for() {
    let folder = Folder::default();
    let backend = folder.open().await.unwrap();
    let committed = async || store_stats(&backend).await.committed_at;
    assert_eq!(committed().await, None);
    put(&backend, "a").await;
    while committed().await.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let later = folder.as_after_a_kill().open().await.unwrap();
    assert_eq!(value(&later, "a").await, Some(b"a".to_vec()));
}

#[tokio::test]
async fn a_backend_that_is_dropped_lets_go_of_the_store() {
    let folder = Folder::default();
    let backend = folder.open().await.unwrap();
    put(&backend, "a").await;
    backend.flush().await.unwrap();
    drop(backend);
    let later = loop {
        if let Ok(later) = folder.open().await {
            break later;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(value(&later, "a").await, Some(b"a".to_vec()));
}

#[tokio::test]
async fn nothing_of_a_secret_is_in_the_files_in_clear() {
    let folder = Folder::default();
    let backend = folder.open().await.unwrap();
    for value in ["canary-one", "canary-two"] {
        let mut entry = entry(value.as_bytes());
        entry.secret.version_id = "canary-version".into();
        entry.secret.stages = ["canary-stage".into()].into();
        backend.put(&key("canary-name"), entry).await.unwrap();
        backend.flush().await.unwrap();
    }
    let bytes = fs::read(folder.store()).unwrap();
    backend.close().await.unwrap();
    let closed = fs::read(folder.store()).unwrap();
    for word in ["canary", "kms.example", "identity", "ACSCurrent"] {
        for bytes in [&bytes, &closed] {
            let found = bytes
                .windows(word.len())
                .any(|part| part == word.as_bytes());
            assert!(!found, "{word} is in the store");
        }
    }
    let fetched_at = NOW.as_millis().to_le_bytes();
    assert!(!closed.windows(8).any(|part| part == fetched_at));
}

#[tokio::test]
async fn store_and_key_are_for_this_user_alone() {
    let folder = Folder::filled("a").await;
    assert_eq!(mode(&folder.store()), 0o600);
    assert_eq!(mode(&folder.key()), 0o600);
    assert_eq!(mode(folder.store().parent().unwrap()), 0o700);
    assert_eq!(mode(folder.key().parent().unwrap()), 0o700);
    assert_eq!(fs::read(folder.key()).unwrap().len(), 32);
}

#[tokio::test]
async fn a_second_opening_is_refused_and_names_the_file() {
    let folder = Folder::default();
    let backend = folder.open().await.unwrap();
    put(&backend, "a").await;
    let error = folder.open().await.unwrap_err().to_string();
    let expected = format!(
        "the store {} is in use by another process",
        folder.store().display()
    );
    assert_eq!(error, expected);
    assert_eq!(folder.beside_the_store().len(), 1);
    backend.flush().await.unwrap();
    assert_eq!(value(&backend, "a").await, Some(b"a".to_vec()));
}

#[tokio::test]
async fn the_longest_ago_fetched_go_first_when_the_next_process_has_less_room() {
    let folder = Folder::default();
    let backend = folder.open().await.unwrap();
    for n in 0..20_u64 {
        // In another order than that of the fetches.
        let n = (n * 7) % 20;
        let entry = entry_fetched(b"x", NOW.plus(Duration::from_secs(n)));
        backend.put(&key(&format!("s{n:02}")), entry).await.unwrap();
    }
    backend.close().await.unwrap();
    let capacity = NonZeroUsize::new(3).unwrap();
    let later = folder.open_with(capacity).await.unwrap();
    assert_eq!(names(&later).await, ["s17", "s18", "s19"]);
    later.close().await.unwrap();
    let later = folder.open().await.unwrap();
    assert_eq!(names(&later).await, ["s17", "s18", "s19"]);
}

#[tokio::test]
async fn what_died_meanwhile_is_swept() {
    let folder = Folder::filled("a").await;
    let later = folder.open().await.unwrap();
    assert_eq!(later.stats().await.unwrap().entries, 1);
    let late = NOW.plus(Duration::from_hours(1));
    assert!(later.get(&key("a"), late).await.unwrap().is_none());
    assert_eq!(names(&later).await, ["a"]);
    later.sweep(late).await.unwrap();
    assert_eq!(names(&later).await, ["a"], "the clock may be wrong");
    later.confirm_clock();
    later.sweep(late).await.unwrap();
    assert_eq!(names(&later).await, [""; 0]);
}

#[tokio::test]
async fn clearing_replaces_store_and_key() {
    let folder = Folder::filled("a").await;
    let (old_key, old_store) = (
        fs::read(folder.key()).unwrap(),
        fs::metadata(folder.store()).unwrap().ino(),
    );
    let backend = folder.open().await.unwrap();
    backend.clear().await.unwrap();
    assert_ne!(fs::read(folder.key()).unwrap(), old_key);
    assert_ne!(fs::metadata(folder.store()).unwrap().ino(), old_store);
    assert_eq!((mode(&folder.store()), mode(&folder.key())), (0o600, 0o600));
    assert_eq!(value(&backend, "a").await, None);
    put(&backend, "b").await;
    backend.close().await.unwrap();
    let later = folder.open().await.unwrap();
    assert_eq!(names(&later).await, ["b"]);
    assert_eq!(value(&later, "b").await, Some(b"b".to_vec()));
}

#[tokio::test]
async fn what_is_put_while_the_store_is_cleared_is_whole_or_gone() {
    let folder = Folder::default();
    let backend = folder.open().await.unwrap();
    for round in 0..20 {
        let names: Vec<String> = (0..20).map(|n| format!("s{round}-{n}")).collect();
        let putting = async {
            for name in &names {
                put(&backend, name).await;
                tokio::task::yield_now().await;
            }
        };
        let (cleared, ()) = tokio::join!(backend.clear(), putting);
        cleared.unwrap();
        put(&backend, "last").await;
        assert_eq!(value(&backend, "last").await, Some(b"last".to_vec()));
        for name in &names {
            let found = value(&backend, name).await;
            assert!(found.is_none_or(|found| found == name.as_bytes()));
        }
    }
    backend.close().await.unwrap();
    let later = folder.open().await.unwrap();
    assert_eq!(value(&later, "last").await, Some(b"last".to_vec()));
}

#[tokio::test]
async fn space_of_removed_entries_is_given_back_at_the_end() {
    let folder = Folder::default();
    let backend = folder.open().await.unwrap();
    for n in 0..50 {
        let entry = entry(&vec![0x5A; 100_000]);
        backend.put(&key(&format!("s{n}")), entry).await.unwrap();
    }
    backend.flush().await.unwrap();
    let full = fs::metadata(folder.store()).unwrap().len();
    for n in 1..50 {
        backend.remove(&key(&format!("s{n}"))).await.unwrap();
    }
    backend.close().await.unwrap();
    assert!(fs::metadata(folder.store()).unwrap().len() < full / 2);
    let later = folder.open().await.unwrap();
    assert_eq!(names(&later).await, ["s0"]);
}

#[tokio::test]
async fn a_store_that_cannot_be_made_heals_and_gets_what_memory_has() {
    let folder = Folder::default();
    // A file where the folder should be.
    let cache = folder.store().parent().unwrap().to_owned();
    fs::write(&cache, b"").unwrap();
    let backend = folder.open().await.unwrap();
    assert_eq!(support::trouble(&backend).await, Some("io_error"));
    put(&backend, "a").await;
    put(&backend, "b").await;
    assert_eq!(value(&backend, "a").await, Some(b"a".to_vec()));
    assert!(backend.flush().await.is_err());
    assert!(backend.remove(&key("b")).await.is_err());
    assert_eq!(value(&backend, "b").await, None);

    fs::remove_file(&cache).unwrap();
    sweep_until_healed(&backend).await;
    backend.flush().await.unwrap();
    let later = folder.as_after_a_kill().open().await.unwrap();
    assert_eq!(names(&later).await, ["a"]);
    assert_eq!(value(&backend, "a").await, Some(b"a".to_vec()));
    backend.close().await.unwrap();
}

#[test]
fn the_config_opens_nothing_and_names_its_folders() {
    let folder = Folder::default();
    let config = folder.config();
    let expected = [folder.store(), folder.key()].map(|path| path.parent().unwrap().to_owned());
    assert_eq!(config.folders(), expected);
    assert_eq!(config.files(), [folder.key()]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let (config, report) = configure(&[]);
    assert_eq!(report.problems, []);
    assert_eq!(config.folders(), ["./cache", "./keys"].map(Path::new));
    let (config, _) = configure(&[("KeyFile", "credential:agent")]);
    assert_eq!(config.folders(), ["./cache"].map(Path::new));
}

#[test]
fn every_problem_of_the_config_is_reported() {
    let (_, report) = configure(&[
        ("Path", "folder/"),
        ("KeyFile", "credential:a/b"),
        ("Paht", "x"),
    ]);
    let keys: Vec<&str> = report
        .problems
        .iter()
        .map(|problem| &*problem.key)
        .collect();
    assert_eq!(keys, ["Path", "KeyFile", "Paht"]);
}

/// Largest size of a file after a clean stop: a multiple of its records, and a little.
const MOST_BYTES_PER_LIVE_BYTE: u64 = 3;
const SPARE_BYTES: u64 = 4 << 20;

#[tokio::test]
async fn a_store_takes_little_more_of_the_disk_than_its_records_after_a_clean_stop() {
    // Large values, small ones, and the few that remain of many.
    for (length, count, kept) in [(60_000, 80, 80), (400, 1000, 1000), (20_000, 300, 10)] {
        let folder = Folder::default();
        let capacity = NonZeroUsize::new(count).unwrap();
        let backend = folder.open_with(capacity).await.unwrap();
        for round in 0..=2 {
            for n in 0..count {
                let value = vec![round; length];
                let name = format!("s{n}");
                backend.put(&key(&name), entry(&value)).await.unwrap();
            }
            backend.flush().await.unwrap();
        }
        for n in kept..count {
            backend.remove(&key(&format!("s{n}"))).await.unwrap();
        }
        backend.close().await.unwrap();
        let live = (kept * length) as u64;
        let bytes = fs::metadata(folder.store()).unwrap().len();
        assert!(
            bytes <= MOST_BYTES_PER_LIVE_BYTE * live + SPARE_BYTES,
            "{bytes} bytes for {live}"
        );
        let later = folder.open_with(capacity).await.unwrap();
        assert_eq!(value(&later, "s0").await, Some(vec![2; length]));
        assert_eq!(
            value(&later, &format!("s{}", kept - 1)).await,
            Some(vec![2; length])
        );
    }
}
