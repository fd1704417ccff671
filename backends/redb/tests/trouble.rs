//! Keys that do not fit and files that are damaged, and the state of the store then.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use kms_agent_core::backend::BackendErrorKind;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use self::support::{Folder, NOW, names, put, store_stats, trouble, value};

const RECORDS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("records");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// Checks that the agent runs in memory, reports it, and leaves the store as it is.
async fn assert_untouched_and_in_memory(folder: &Folder, word: &str) {
    let before = fs::read(folder.store()).unwrap();
    let key = fs::read(folder.key()).ok();
    let backend = folder.open().await.unwrap();
    assert_eq!(trouble(&backend).await, Some(word));
    assert_eq!(store_stats(&backend).await.failures, 1);
    assert!(!backend.info().durable);
    assert_eq!(backend.info().resumed, None);
    assert_eq!(value(&backend, "a").await, None);
    put(&backend, "b").await;
    assert_eq!(value(&backend, "b").await, Some(b"b".to_vec()));
    assert_eq!(names(&backend).await, ["b"]);
    // The entries are in the store all the same, so no removal may be confirmed.
    let refused = backend.remove(&support::key("b")).await.unwrap_err();
    assert_eq!(refused.kind(), BackendErrorKind::Unavailable);
    assert_eq!(value(&backend, "b").await, None);
    let refused = backend.remove(&support::key("never-put")).await;
    assert_eq!(refused.unwrap_err().kind(), BackendErrorKind::Unavailable);
    put(&backend, "b").await;
    backend.flush().await.unwrap();
    backend.sweep(NOW).await.unwrap();
    backend.clear().await.unwrap_err();
    assert_eq!(value(&backend, "b").await, None);
    assert_eq!(trouble(&backend).await, Some(word));
    backend.close().await.unwrap();
    assert!(
        fs::read(folder.store()).unwrap() == before,
        "the store changed"
    );
    assert_eq!(fs::read(folder.key()).ok(), key);
    assert_eq!(folder.beside_the_store(), ["kms-agent.redb"]);
}

#[tokio::test]
async fn a_store_without_its_key_is_left_untouched_until_the_key_is_back() {
    let folder = Folder::filled("a").await;
    let kept = fs::read(folder.key()).unwrap();
    fs::remove_file(folder.key()).unwrap();
    assert_untouched_and_in_memory(&folder, "key_missing").await;

    fs::write(folder.key(), &kept[..31]).unwrap();
    fs::set_permissions(folder.key(), Permissions::from_mode(0o600)).unwrap();
    assert_untouched_and_in_memory(&folder, "key_invalid").await;

    fs::write(folder.key(), [0x77; 32]).unwrap();
    assert_untouched_and_in_memory(&folder, "key_mismatch").await;

    fs::write(folder.key(), &kept).unwrap();
    let backend = folder.open().await.unwrap();
    assert_eq!(value(&backend, "a").await, Some(b"a".to_vec()));
}

#[tokio::test]
async fn a_store_of_another_key_is_left_untouched_after_a_kill_too() {
    let folder = Folder::default();
    let backend = folder.open().await.unwrap();
    put(&backend, "a").await;
    backend.flush().await.unwrap();
    let killed = folder.as_after_a_kill();
    fs::write(killed.key(), [0x77; 32]).unwrap();
    assert_untouched_and_in_memory(&killed, "key_mismatch").await;
}

#[tokio::test]
async fn a_key_that_was_put_there_before_is_used_and_a_bad_one_is_not_replaced() {
    let folder = Folder::default();
    fs::create_dir_all(folder.key().parent().unwrap()).unwrap();
    fs::write(folder.key(), [0x77; 32]).unwrap();
    fs::set_permissions(folder.key(), Permissions::from_mode(0o600)).unwrap();
    let backend = folder.open().await.unwrap();
    put(&backend, "a").await;
    backend.close().await.unwrap();
    assert_eq!(fs::read(folder.key()).unwrap(), [0x77; 32]);

    fs::remove_file(folder.store()).unwrap();
    fs::write(folder.key(), b"short").unwrap();
    let backend = folder.open().await.unwrap();
    assert_eq!(trouble(&backend).await, Some("key_invalid"));
    assert_eq!(fs::read(folder.key()).unwrap(), b"short");
    assert!(!folder.store().exists());
}

#[tokio::test]
async fn files_that_others_may_access_are_refused_with_the_remedy() {
    let folder = Folder::filled("a").await;
    for path in [folder.store(), folder.key()] {
        fs::set_permissions(&path, Permissions::from_mode(0o604)).unwrap();
        let error = folder.open().await.unwrap_err().to_string();
        let remedy = format!("run `chmod 600 {}`", path.display());
        assert!(error.ends_with(&remedy), "{error}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    let backend = folder.open().await.unwrap();
    assert_eq!(value(&backend, "a").await, Some(b"a".to_vec()));
}

#[tokio::test]
async fn a_store_that_is_not_a_file_is_refused() {
    let folder = Folder::filled("a").await;
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(folder.store(), &elsewhere).unwrap();
    symlink(&elsewhere, folder.store()).unwrap();
    let error = folder.open().await.unwrap_err().to_string();
    assert!(error.contains("is a symbolic link"), "{error}");
    fs::remove_file(folder.store()).unwrap();
    fs::create_dir(folder.store()).unwrap();
    for mode in [0o700, 0o755] {
        fs::set_permissions(folder.store(), Permissions::from_mode(mode)).unwrap();
        let remedy = "is a folder; choose another Cache.Persistent.Path";
        let error = folder.open().await.unwrap_err().to_string();
        assert!(error.ends_with(remedy), "{error}");
        let error = folder.config().examine().unwrap_err().to_string();
        assert!(error.ends_with(remedy), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_quarantined_and_only_the_last_one_kept() {
    let folder = Folder::filled("a").await;
    let whole = fs::read(folder.store()).unwrap();
    let key = fs::read(folder.key()).unwrap();
    let older = folder
        .store()
        .with_file_name("kms-agent.redb.corrupt-20200101T000000Z");
    fs::write(&older, b"older").unwrap();
    for damaged in [&b"garbage"[..], &whole[..whole.len() / 2], &[0; 4096]] {
        fs::write(folder.store(), damaged).unwrap();
        let backend = folder.open().await.unwrap();
        assert_eq!(trouble(&backend).await, None);
        assert!(backend.info().durable);
        assert_eq!(value(&backend, "a").await, None);
        put(&backend, "b").await;
        backend.close().await.unwrap();

        let [new, aside] = folder.beside_the_store().try_into().unwrap();
        assert_eq!(new, "kms-agent.redb");
        let stamp = aside.strip_prefix("kms-agent.redb.corrupt-").unwrap();
        assert_eq!(
            (stamp.len(), stamp.as_bytes()[8], stamp.as_bytes()[15]),
            (16, b'T', b'Z')
        );
        let kept = fs::read(folder.store().with_file_name(aside)).unwrap();
        assert!(kept == damaged, "the quarantined file changed");
        assert_eq!(fs::read(folder.key()).unwrap(), key);

        let later = folder.open().await.unwrap();
        assert_eq!(names(&later).await, ["b"]);
        later.close().await.unwrap();
    }
}

#[tokio::test]
async fn files_that_only_look_quarantined_are_left_alone() {
    let folder = Folder::filled("a").await;
    let beside = |name: &str| {
        folder
            .store()
            .with_file_name(format!("kms-agent.redb.corrupt-{name}"))
    };
    fs::create_dir(beside("20200101T000000Z")).unwrap();
    fs::write(beside("keep"), b"kept").unwrap();
    fs::write(folder.store(), b"garbage").unwrap();
    let backend = folder.open().await.unwrap();
    assert_eq!(trouble(&backend).await, None);
    assert!(beside("20200101T000000Z").is_dir() && beside("keep").exists());
    assert_eq!(folder.beside_the_store().len(), 4);
}

#[tokio::test]
async fn one_file_for_store_and_key_is_refused_and_left_alone() {
    let folder = Folder::filled("a").await;
    let before = fs::read(folder.key()).unwrap();
    fs::remove_file(folder.store()).unwrap();
    fs::hard_link(folder.key(), folder.store()).unwrap();
    let error = folder.open().await.unwrap_err().to_string();
    assert!(error.contains("are one file"), "{error}");
    assert_eq!(fs::read(folder.key()).unwrap(), before);
}

#[tokio::test]
async fn a_store_of_an_unknown_format_is_quarantined() {
    let folder = Folder::filled("a").await;
    let database = Database::open(folder.store()).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(META)
        .unwrap()
        .insert("format", [200].as_slice())
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let backend = folder.open().await.unwrap();
    assert_eq!(value(&backend, "a").await, None);
    assert_eq!(folder.beside_the_store().len(), 2);
}

#[tokio::test]
async fn an_empty_file_is_not_a_store_yet() {
    let folder = Folder::default();
    fs::create_dir_all(folder.store().parent().unwrap()).unwrap();
    fs::write(folder.store(), b"").unwrap();
    fs::set_permissions(folder.store(), Permissions::from_mode(0o600)).unwrap();
    let backend = folder.open().await.unwrap();
    assert_eq!(trouble(&backend).await, None);
    assert_eq!(folder.beside_the_store().len(), 1);
}

/// Changes one byte of every record in the store, counted from its end.
fn damage_records(folder: &Folder, from_end: usize) {
    let database = Database::open(folder.store()).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut records = transaction.open_table(RECORDS).unwrap();
        let all: Vec<([u8; 32], Vec<u8>)> = records
            .iter()
            .unwrap()
            .map(|record| record.unwrap())
            .map(|(hash, record)| (*hash.value(), record.value().to_vec()))
            .collect();
        for (hash, mut record) in all {
            *record.iter_mut().rev().nth(from_end - 1).unwrap() ^= 1;
            records.insert(&hash, record.as_slice()).unwrap();
        }
    }
    transaction.commit().unwrap();
}

fn count_records(folder: &Folder) -> usize {
    let database = Database::open(folder.store()).unwrap();
    let records = database.begin_read().unwrap().open_table(RECORDS).unwrap();
    records.iter().unwrap().count()
}

#[tokio::test]
async fn a_damaged_record_is_a_miss_and_is_removed() {
    // In the value's tag, and in the header before it.
    for from_end in [1, 40] {
        let folder = Folder::filled("a").await;
        damage_records(&folder, from_end);
        assert_eq!(count_records(&folder), 1);
        let backend = folder.open().await.unwrap();
        assert_eq!(value(&backend, "a").await, None);
        assert_eq!(names(&backend).await, [""; 0]);
        backend.close().await.unwrap();
        assert_eq!(count_records(&folder), 0);
        assert_eq!(folder.beside_the_store().len(), 1);
    }
}

#[tokio::test]
async fn the_listing_after_a_start_finds_damaged_records_before_a_read() {
    // In the value's tag, and in the header before it.
    for from_end in [1, 40] {
        let folder = Folder::filled("a").await;
        damage_records(&folder, from_end);
        let backend = folder.open().await.unwrap();
        assert_eq!(names(&backend).await, [""; 0]);
        backend.close().await.unwrap();
        assert_eq!(count_records(&folder), 0);
    }
}

#[tokio::test]
async fn records_that_change_places_are_misses() {
    let folder = Folder::default();
    let backend = folder.open().await.unwrap();
    put(&backend, "a").await;
    put(&backend, "b").await;
    backend.close().await.unwrap();
    {
        let database = Database::open(folder.store()).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut records = transaction.open_table(RECORDS).unwrap();
            let all: Vec<([u8; 32], Vec<u8>)> = records
                .iter()
                .unwrap()
                .map(|record| record.unwrap())
                .map(|(hash, record)| (*hash.value(), record.value().to_vec()))
                .collect();
            records.insert(&all[0].0, all[1].1.as_slice()).unwrap();
            records.insert(&all[1].0, all[0].1.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    }
    let backend = folder.open().await.unwrap();
    assert_eq!(value(&backend, "a").await, None);
    assert_eq!(value(&backend, "b").await, None);
}

#[tokio::test]
async fn pages_that_were_zeroed_cost_no_more_than_the_entries_on_them() {
    let folder = Folder::default();
    let backend = folder.open().await.unwrap();
    for n in 0..90 {
        let entry = support::entry(&[0x5A; 1000]);
        backend
            .put(&support::key(&format!("s{n}")), entry)
            .await
            .unwrap();
        if n % 30 == 0 {
            backend.flush().await.unwrap();
        }
    }
    backend.close().await.unwrap();
    let whole = fs::read(folder.store()).unwrap();
    let mut quarantined = 0;
    let mut costs = Vec::new();
    for page in 1..whole.len() / 4096 {
        let copy = folder.as_after_a_kill();
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0);
        fs::write(copy.store(), bytes).unwrap();
        let backend = copy.open().await.unwrap();
        for n in 0..90 {
            let found = value(&backend, &format!("s{n}")).await;
            assert!(found.is_none_or(|found| found == [0x5A; 1000]));
        }
        costs.push(90 - names(&backend).await.len());
        put(&backend, "new").await;
        assert_eq!(value(&backend, "new").await, Some(b"new".to_vec()));
        backend.flush().await.unwrap();
        backend.close().await.unwrap();
        let later = copy.open().await.unwrap();
        assert_eq!(
            value(&later, "new").await,
            Some(b"new".to_vec()),
            "page {page}"
        );
        later.close().await.unwrap();
        quarantined += copy.beside_the_store().len() - 1;
    }
    assert!(quarantined > 0, "no page mattered");
    assert!(costs.iter().any(|cost| (1..30).contains(cost)), "{costs:?}");
}
