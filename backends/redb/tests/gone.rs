//! Removal and replacement of the store's file under the running backend.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on panics"
)]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::CacheBackend;

use self::support::{Folder, NOW, key, names, put, trouble, value};

fn file(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// Sweeps, as the agent does every second, until the store has another file than this one.
async fn sweep_until_created_again(folder: &Folder, backend: &Arc<dyn CacheBackend>, old: u64) {
    for _ in 0..2000 {
        if file(&folder.store()).is_some_and(|new| new != old) {
            return;
        }
        backend.sweep(NOW).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the change was not noticed");
}

/// Opens a store with the entries `a` and `b`, takes its files away, and checks that it is created again.
async fn assert_created_again_after(take_away: impl Fn(&Folder)) -> Folder {
    let folder = Folder::default();
    let backend = folder.open().await.unwrap();
    put(&backend, "a").await;
    backend.flush().await.unwrap();
    // Held open, so that no new file gets its number.
    let held = fs::File::open(folder.store()).unwrap();
    let old = held.metadata().unwrap().ino();
    take_away(&folder);
    put(&backend, "b").await;
    sweep_until_created_again(&folder, &backend, old).await;
    backend.flush().await.unwrap();
    assert_eq!(trouble(&backend).await, None);
    let later = folder.as_after_a_kill().open().await.unwrap();
    for name in ["a", "b"] {
        assert_eq!(value(&backend, name).await, Some(name.into()));
        assert_eq!(value(&later, name).await, Some(name.into()), "{name}");
    }
    backend.close().await.unwrap();
    folder
}

#[tokio::test]
async fn a_store_that_is_deleted_is_rewritten_from_memory() {
    assert_created_again_after(|folder| fs::remove_file(folder.store()).unwrap()).await;
}

#[tokio::test]
async fn so_is_one_whose_folder_is_deleted() {
    assert_created_again_after(|folder| {
        fs::remove_dir_all(folder.store().parent().unwrap()).unwrap();
    })
    .await;
}

#[tokio::test]
async fn without_its_key_too_it_is_created_again_under_a_new_one() {
    assert_created_again_after(|folder| {
        fs::remove_file(folder.store()).unwrap();
        fs::remove_dir_all(folder.key().parent().unwrap()).unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_was_removed_does_not_come_back_with_an_older_copy_of_the_store() {
    let folder = Folder::default();
    let backend = folder.open().await.unwrap();
    put(&backend, "a").await;
    put(&backend, "b").await;
    backend.flush().await.unwrap();
    let copy = folder.path().join("copy");
    fs::copy(folder.store(), &copy).unwrap();
    backend.remove(&key("a")).await.unwrap();
    let old = file(&folder.store()).unwrap();
    fs::rename(&copy, folder.store()).unwrap();
    sweep_until_created_again(&folder, &backend, old).await;
    put(&backend, "c").await;
    backend.sweep(NOW).await.unwrap();
    backend.close().await.unwrap();
    let later = folder.open().await.unwrap();
    assert_eq!(names(&later).await, ["b", "c"]);
}

#[tokio::test]
async fn a_store_deleted_just_before_the_end_is_written_all_the_same() {
    let folder = Folder::filled("a").await;
    let backend = folder.open().await.unwrap();
    assert_eq!(value(&backend, "a").await, Some(b"a".to_vec()));
    fs::remove_file(folder.store()).unwrap();
    backend.close().await.unwrap();
    let later = folder.open().await.unwrap();
    assert_eq!(names(&later).await, ["a"]);
}
