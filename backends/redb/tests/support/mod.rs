//! Store in a temporary folder, and entries to put there.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on panics"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kms_agent_backend_redb::FACTORY;
use kms_agent_cache::SystemClock;
use kms_agent_core::backend::StoreStats;
use kms_agent_core::config::{ConfigTable, Located, RawTable, RawValue, Report};
use kms_agent_core::registry::{BackendConfig, BackendContext, OpenError};
use kms_agent_core::{
    CacheBackend, CacheEntry, Clock, Lifetime, Scope, Secret, SecretId, SecretKey, SecretRef,
    SecretValue, Timestamp, VersionSelector,
};
use tempfile::TempDir;
use zeroize::Zeroizing;

/// Arbitrary moment.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

/// Temporary folder of a store and its key.
pub(crate) struct Folder {
    folder: TempDir,
}

impl Default for Folder {
    fn default() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path().join("cache/kms-agent.redb")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.path().join("keys/kms-agent.key")
    }

    pub(crate) fn config(&self) -> Box<dyn BackendConfig> {
        let text = |path: PathBuf| path.to_str().expect("a path of text").to_owned();
        let (config, report) = configure(&[
            ("Path", &text(self.store())),
            ("KeyFile", &text(self.key())),
        ]);
        assert_eq!(report.problems, []);
        config
    }

    pub(crate) async fn open_with(
        &self,
        capacity: NonZeroUsize,
    ) -> Result<Arc<dyn CacheBackend>, OpenError> {
        self.open_at(capacity, Arc::new(SystemClock)).await
    }

    pub(crate) async fn open_at(
        &self,
        capacity: NonZeroUsize,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<dyn CacheBackend>, OpenError> {
        let context = BackendContext {
            capacity,
            clock,
            data_keys: None,
        };
        self.config().open(context).await
    }

    /// Opens the store for a hundred entries.
    pub(crate) async fn open(&self) -> Result<Arc<dyn CacheBackend>, OpenError> {
        self.open_with(NonZeroUsize::new(100).expect("not zero"))
            .await
    }

    /// Creates a closed store with the entry `name` in it.
    pub(crate) async fn filled(name: &str) -> Self {
        let folder = Self::default();
        let backend = folder.open().await.expect("it opens");
        put(&backend, name).await;
        backend.close().await.expect("it closes");
        folder
    }

    /// Copies the files as another process would find them after a kill.
    pub(crate) fn as_after_a_kill(&self) -> Self {
        let copy = Self::default();
        for (from, to) in [(self.store(), copy.store()), (self.key(), copy.key())] {
            std::fs::create_dir_all(to.parent().expect("a folder")).expect("it is made");
            std::fs::copy(from, to).expect("it is copied");
        }
        copy
    }

    /// The names of the files beside the store.
    pub(crate) fn beside_the_store(&self) -> Vec<String> {
        let folder = self.store();
        let folder = folder.parent().expect("a folder");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .expect("it is listed")
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.into_string().expect("text"))
            .collect();
        names.sort();
        names
    }
}

/// The settings that a table `Cache.Persistent` of these strings gives.
pub(crate) fn configure(strings: &[(&str, &str)]) -> (Box<dyn BackendConfig>, Report) {
    let entries: BTreeMap<String, Located> = strings
        .iter()
        .map(|(key, text)| {
            let value = RawValue::String((*text).to_owned());
            ((*key).to_owned(), Located { line: 1, value })
        })
        .collect();
    let report = RefCell::default();
    let mut table = ConfigTable::root(RawTable { line: 1, entries }, &report);
    let config = (FACTORY.configure)(&mut table);
    table.finish();
    (config, report.into_inner())
}

pub(crate) fn key(name: &str) -> SecretKey {
    SecretKey {
        scope: Arc::new(Scope {
            endpoint: "kms.example".into(),
            identity: "identity".into(),
        }),
        secret: SecretRef {
            id: SecretId::parse(name).expect("a valid id"),
            selector: VersionSelector::CURRENT,
        },
    }
}

/// An entry that dies an hour from [`NOW`].
pub(crate) fn entry(value: &[u8]) -> CacheEntry {
    entry_fetched(value, NOW)
}

pub(crate) fn entry_fetched(value: &[u8], fetched_at: Timestamp) -> CacheEntry {
    CacheEntry {
        secret: Secret {
            answer: SecretValue::new(Zeroizing::new(value.to_vec())),
            version_id: "v1".into(),
            stages: ["ACSCurrent".into()].into(),
        },
        lifetime: Lifetime {
            fetched_at,
            rotates_at: None,
            usable_until: NOW.plus(Duration::from_hours(1)),
        },
    }
}

pub(crate) async fn put(backend: &Arc<dyn CacheBackend>, name: &str) {
    backend
        .put(&key(name), entry(name.as_bytes()))
        .await
        .expect("put works");
}

/// The value of the entry `name`.
pub(crate) async fn value(backend: &Arc<dyn CacheBackend>, name: &str) -> Option<Vec<u8>> {
    let found = backend.get(&key(name), NOW).await.expect("get works");
    found.map(|entry| entry.secret.answer.expose().to_vec())
}

/// Statistics of the store.
pub(crate) async fn store_stats(backend: &Arc<dyn CacheBackend>) -> StoreStats {
    let stats = backend.stats().await.expect("stats work");
    stats.store.expect("there is a store")
}

/// Fault of the store in one word.
pub(crate) async fn trouble(backend: &Arc<dyn CacheBackend>) -> Option<&'static str> {
    store_stats(backend).await.trouble
}

/// Sweeps, as the agent does every second, until the store works.
pub(crate) async fn sweep_until_healed(backend: &Arc<dyn CacheBackend>) {
    for _ in 0..2000 {
        if trouble(backend).await.is_none() {
            return;
        }
        backend.sweep(NOW).await.expect("sweep works");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the store did not heal");
}

/// The names of all entries.
pub(crate) async fn names(backend: &Arc<dyn CacheBackend>) -> Vec<String> {
    let limit = NonZeroUsize::new(1000).expect("not zero");
    let page = backend.scan(None, limit).await.expect("scan works");
    let mut names: Vec<String> = page
        .items
        .iter()
        .map(|item| item.key.secret.id.as_str().to_owned())
        .collect();
    names.sort();
    names
}
