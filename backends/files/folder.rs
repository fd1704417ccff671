//! Files of the entries, and the index of them in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kms_agent_core::backend::{ScanItem, StoreStats};
use kms_agent_core::{BackendStats, CacheEntry, Lifetime, Resumed, Scope, SecretKey, Timestamp};
use zeroize::Zeroizing;

use crate::record;

const ENTRY: &str = "entry";
const SCOPE: &str = "scope";
const LOCK: &str = "lock";

/// Open folder. Every change is durable when its method returns.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Lock that is held while the folder is open.
    _lock: File,
    capacity: NonZeroUsize,
    items: BTreeMap<SecretKey, Item>,
    /// Hashes, least recently used first.
    by_use: BTreeMap<u64, SecretKey>,
    /// Hashes by expiry.
    by_death: BTreeSet<(Timestamp, SecretKey)>,
    /// Scope last used.
    scope: Option<Arc<Scope>>,
    /// Last number of a file or of a use.
    last_number: u64,
}

/// Facts about an entry that need no read of its file.
#[derive(Debug)]
struct Item {
    file: u64,
    bytes: u64,
    version_id: Arc<str>,
    lifetime: Lifetime,
    used: u64,
    hits: u64,
}

impl Folder {
    /// Creates the folder if it does not exist, and indexes its files.
    pub(crate) fn open(path: PathBuf, capacity: NonZeroUsize) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)?;
        let lock = private().open(path.join(LOCK))?;
        lock.try_lock()
            .map_err(|_| io::Error::other("it is in use by another process"))?;
        let mut numbers = Vec::new();
        for file in fs::read_dir(&path)? {
            let file = file?.path();
            let number = file
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            match (number, file.extension()) {
                (Some(number), Some(end)) if end == ENTRY => numbers.push(number),
                // Unfinished file of a killed process.
                (_, Some(_)) => fs::remove_file(file)?,
                _ => {}
            }
        }
        numbers.sort_unstable();
        let scope = fs::read(path.join(SCOPE)).ok();
        let mut folder = Self {
            scope: scope.and_then(|bytes| record::decode_scope(&bytes).map(Arc::new)),
            path,
            _lock: lock,
            capacity,
            items: BTreeMap::new(),
            by_use: BTreeMap::new(),
            by_death: BTreeSet::new(),
            last_number: numbers.last().copied().unwrap_or_default(),
        };
        // Oldest first, so that newer files of a key replace older ones.
        for number in numbers {
            match folder.read(number)? {
                Some((key, entry)) => folder.list(&key, &entry, number)?,
                None => folder.delete(number)?,
            }
        }
        Ok(folder)
    }

    /// Returns the state of the previous process. It ended at the time of the newest entry or later.
    pub(crate) fn resumed(&self) -> Option<Resumed> {
        let fetched = self.items.values().map(|item| item.lifetime.fetched_at);
        let newest = fetched.max().unwrap_or_default();
        Some(Resumed {
            scope: self.scope.clone()?,
            written_at: newest,
            // Not recorded: the clock is taken to have been right.
            wall_at: newest,
            counted_from: newest,
        })
    }

    pub(crate) fn get(
        &mut self,
        key: &SecretKey,
        now: Timestamp,
    ) -> io::Result<Option<CacheEntry>> {
        let Some(item) = self.items.get(key) else {
            return Ok(None);
        };
        if now >= item.lifetime.usable_until {
            return Ok(None);
        }
        let Some((_, entry)) = self.read(item.file)?.filter(|(found, _)| found == key) else {
            // The file was changed from outside.
            self.remove(key)?;
            return Ok(None);
        };
        self.last_number += 1;
        if let Some(item) = self.items.get_mut(key) {
            item.hits += 1;
            self.by_use.remove(&item.used);
            item.used = self.last_number;
            self.by_use.insert(item.used, key.clone());
        }
        Ok(Some(entry))
    }

    pub(crate) fn put(&mut self, key: &SecretKey, entry: &CacheEntry) -> io::Result<()> {
        if self.scope.as_ref() != Some(&key.scope) {
            let scope = record::encode_scope(&key.scope);
            self.write(&self.path.join(SCOPE), scope.as_bytes())?;
            self.scope = Some(Arc::clone(&key.scope));
        }
        self.last_number += 1;
        let number = self.last_number;
        if let Err(error) = self.write(&self.file(number), &record::encode(key, entry)) {
            // A file that is not indexed must not show up in a later process.
            let _ = self.delete(number);
            return Err(error);
        }
        self.list(key, entry, number)?;
        self.evict()
    }

    /// Indexes the entry in `file`, and removes the file of an older one.
    fn list(&mut self, key: &SecretKey, entry: &CacheEntry, file: u64) -> io::Result<()> {
        let older = self.unlist(key);
        let item = Item {
            file,
            bytes: entry.secret.answer.len() as u64,
            version_id: Arc::clone(&entry.secret.version_id),
            lifetime: entry.lifetime,
            used: file,
            hits: older.as_ref().map_or(0, |older| older.hits),
        };
        self.by_use.insert(file, key.clone());
        self.by_death
            .insert((entry.lifetime.usable_until, key.clone()));
        self.items.insert(key.clone(), item);
        match older {
            Some(older) => self.delete(older.file),
            None => Ok(()),
        }
    }

    fn unlist(&mut self, key: &SecretKey) -> Option<Item> {
        let item = self.items.remove(key)?;
        self.by_use.remove(&item.used);
        self.by_death
            .remove(&(item.lifetime.usable_until, key.clone()));
        Some(item)
    }

    pub(crate) fn remove(&mut self, key: &SecretKey) -> io::Result<()> {
        if let Some(item) = self.items.get(key) {
            // The file goes first: after a failure the entry is still indexed, and can be removed again.
            self.delete(item.file)?;
            self.unlist(key);
        }
        Ok(())
    }

    pub(crate) fn clear(&mut self) -> io::Result<()> {
        while let Some((key, _)) = self.items.first_key_value() {
            let key = key.clone();
            self.remove(&key)?;
        }
        if self.scope.is_some() {
            fs::remove_file(self.path.join(SCOPE))?;
            self.scope = None;
        }
        self.sync()
    }

    /// Removes the entries that are dead at `now`, without looking at others.
    pub(crate) fn sweep(&mut self, now: Timestamp) -> io::Result<()> {
        while let Some((dies_at, key)) = self.by_death.first()
            && *dies_at <= now
        {
            let key = key.clone();
            self.remove(&key)?;
        }
        self.evict()
    }

    /// Removes the entries over capacity.
    pub(crate) fn evict(&mut self) -> io::Result<()> {
        while self.items.len() > self.capacity.get()
            && let Some((_, key)) = self.by_use.first_key_value()
        {
            let key = key.clone();
            self.remove(&key)?;
        }
        Ok(())
    }

    /// Returns at most `limit` entries whose keys come after `from`.
    pub(crate) fn page(&self, from: Option<&SecretKey>, limit: NonZeroUsize) -> Vec<ScanItem> {
        let start = from.map_or(Bound::Unbounded, Bound::Excluded);
        self.items
            .range((start, Bound::Unbounded))
            .take(limit.get())
            .map(|(key, item)| ScanItem {
                key: key.clone(),
                version_id: Arc::clone(&item.version_id),
                lifetime: item.lifetime,
                hits: item.hits,
            })
            .collect()
    }

    pub(crate) fn stats(&self) -> BackendStats {
        BackendStats {
            entries: self.items.len(),
            capacity: self.capacity.get(),
            store: Some(StoreStats {
                path: self.path.clone(),
                bytes: Some(self.items.values().map(|item| item.bytes).sum()),
                trouble: None,
                failures: 0,
                committed_at: None,
            }),
        }
    }

    fn file(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number}.{ENTRY}"))
    }

    /// Reads an entry from its file; `None` if the file is missing or invalid.
    fn read(&self, number: u64) -> io::Result<Option<(SecretKey, CacheEntry)>> {
        match fs::read(self.file(number)).map(Zeroizing::new) {
            Ok(bytes) => Ok(record::decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn delete(&self, number: u64) -> io::Result<()> {
        match fs::remove_file(self.file(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.sync(),
        }
    }

    /// Writes a file atomically.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let unfinished = path.with_extension("unfinished");
        let mut file = private().truncate(true).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(unfinished, path)?;
        self.sync()
    }

    /// Syncs the folder, so that new, renamed and removed files survive a power cut.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// Options for a file of this user alone.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}
