//! Where the store and its key are, and the way from there to an open store.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kms_agent_core::{Clock, Resumed};
use kms_agent_sealed::key::{KeyError, KeySource, RootKey};
use kms_agent_sealed::private::{self, Distrust};
use kms_agent_sealed::record::decode_resumed;
use kms_agent_sealed::seal::{RESUMED, Sealer};

use super::aside;
use super::disk::{Contents, Disk};
use super::fault::{Failure, Fault};
use super::medium::Medium;

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) key: KeySource,
    pub(crate) medium: Arc<dyn Medium>,
    /// For the names of files set aside.
    pub(crate) clock: Arc<dyn Clock>,
}

/// A store that is open.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) disk: Disk,
    pub(crate) file: FileId,
    pub(crate) sealer: Arc<Sealer>,
    /// What the process before left word of.
    pub(crate) resumed: Option<Resumed>,
    pub(crate) records: u64,
    /// It was just begun.
    pub(crate) is_new: bool,
}

/// Tells a file from another that takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// Why there is no open store.
#[derive(Debug)]
pub(crate) enum OpenFailure {
    /// For the operator to mend before the agent may start.
    Refused(String),
    /// The key is not the store's. The store is as it was.
    Barred { word: &'static str, message: String },
    /// The medium failed; it may come back.
    Failed(Failure),
}

/// The keys that the agent has before it opens a store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keys<'a> {
    /// Those of the store it had open.
    Known(&'a Arc<Sealer>),
    /// Drawn anew, for a store that has no key yet.
    Drawn(&'a RootKey),
}

impl Place {
    /// Opens the store, begins one where there is none, and sets a damaged one aside.
    pub(crate) fn open(&self, keys: Keys<'_>) -> Result<Opened, OpenFailure> {
        let Some(Existing {
            file,
            metadata,
            unwritable,
        }) = self.existing()?
        else {
            return self.begin(&self.key_for_new(keys)?);
        };
        let sealer = match keys {
            Keys::Known(sealer) => Arc::clone(sealer),
            Keys::Drawn(_) => Arc::new(Sealer::new(&self.key.load()?)),
        };
        match self.open_file(file, &sealer, unwritable) {
            Ok((disk, contents)) => {
                if disk.unwritable().is_none() {
                    self.tidy();
                }
                Ok(opened(disk, contents, &sealer, &metadata))
            }
            Err(Fault::Damaged(why)) => {
                self.set_aside(&why, Some((&metadata).into()))
                    .map_err(failed)?;
                self.begin(&sealer)
            }
            Err(fault) => Err(self.failure(fault)),
        }
    }

    /// Puts an empty store in place of the one that is there, and a new key in place of its own.
    pub(crate) fn replace(&self, sealer: &Arc<Sealer>) -> Result<Opened, OpenFailure> {
        self.remove().map_err(failed)?;
        let sealer = match self.replace_key() {
            Ok(Some(sealer)) => &Arc::new(sealer),
            Ok(None) => sealer,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "The cache was purged, but its key could not be replaced and stays in use"
                );
                sealer
            }
        };
        self.begin(sealer)
    }

    /// Removes the store's file for good.
    pub(crate) fn remove(&self) -> io::Result<()> {
        private::remove(&self.path)
    }

    /// Whether the store's file can be written, without touching it.
    pub(crate) fn try_writing(&self) -> io::Result<()> {
        open_file(&self.path, OpenOptions::new().write(true)).map(drop)
    }

    fn replace_key(&self) -> io::Result<Option<Sealer>> {
        if !self.key.is_ours() {
            tracing::warn!(
                "The cache was purged, but its key is a credential, which the agent cannot replace; it stays in use"
            );
            return Ok(None);
        }
        let key = RootKey::random()?;
        self.key.replace(&key)?;
        Ok(Some(Sealer::new(&key)))
    }

    /// Renames the store's file, so that somebody may look at it, in place of the one set aside before.
    pub(crate) fn set_aside(&self, why: &str, damaged: Option<FileId>) -> io::Result<()> {
        if damaged.is_some_and(|damaged| self.file() != Some(damaged)) {
            return Err(io::Error::other(
                "another process put a new store in its place",
            ));
        }
        let Some(target) = aside::rename(&self.path, self.clock.wall())? else {
            return Ok(());
        };
        tracing::warn!(
            store.path = %self.path.display(),
            set.aside = %target.display(),
            reason = why,
            "The cache's store is damaged; it was set aside and a new one begun"
        );
        Ok(())
    }

    /// The file that is there now.
    pub(crate) fn file(&self) -> Option<FileId> {
        let metadata = fs::symlink_metadata(&self.path).ok()?;
        Some((&metadata).into())
    }

    /// The file's size, 0 while there is none.
    pub(crate) fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// The store's file, unless there is nothing in it.
    fn existing(&self) -> Result<Option<Existing>, OpenFailure> {
        let mut options = OpenOptions::new();
        let mut unwritable = None;
        let opened = match open_file(&self.path, options.read(true).write(true)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // What it holds can be answered all the same.
            Err(error) if is_unwritable(&error) => {
                let readable = open_file(&self.path, options.write(false));
                unwritable = Some(error.into());
                readable
            }
            opened => opened,
        };
        let (file, metadata) = check(&self.path, opened)?;
        if metadata.len() == 0 {
            tracing::warn!(
                store.path = %self.path.display(),
                "The cache's store is an empty file; a new one is begun in its place"
            );
        }
        Ok((metadata.len() > 0).then_some(Existing {
            file,
            metadata,
            unwritable,
        }))
    }

    fn open_file(
        &self,
        file: File,
        sealer: &Sealer,
        unwritable: Option<Failure>,
    ) -> Result<(Disk, Contents), Fault> {
        Disk::open(self.medium.open(file)?, sealer, unwritable)
    }

    /// Begins a store where there is none.
    fn begin(&self, sealer: &Arc<Sealer>) -> Result<Opened, OpenFailure> {
        private::make_folder(&self.path).map_err(out_of_reach)?;
        private::heed(private::judge_folder("store", &self.path))?;
        self.build(sealer, |_| {
            if self.bytes() > 0 {
                // Somebody else was faster.
                return Err(Fault::Locked);
            }
            Ok(())
        })
    }

    /// Puts a store with the same in it, and no room for more, in place of `disk`, which stays open.
    pub(crate) fn rewrite(&self, disk: &Disk, sealer: &Arc<Sealer>) -> Result<Opened, OpenFailure> {
        self.build(sealer, |new| disk.copy_to(new))
    }

    /// Builds a store beside its place and puts it there when `finish` has succeeded with it, so that whoever is
    /// killed meanwhile leaves nothing that looks like a damaged one.
    fn build(
        &self,
        sealer: &Arc<Sealer>,
        finish: impl FnOnce(&Disk) -> Result<(), Fault>,
    ) -> Result<Opened, OpenFailure> {
        let built = self.unplaced();
        let made = open_or_make(&built);
        if let Err(error) = &made
            && error.kind() == io::ErrorKind::PermissionDenied
        {
            return Err(out_of_reach(error.kind().into()));
        }
        let (file, metadata) = check(&built, made)?;
        // Also against somebody else who builds one here; it is the lock that redb takes again.
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(self.failure(Fault::Locked)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let placed = file.set_len(0).map_err(Fault::from).and_then(|()| {
            let (disk, contents) = self.open_file(file, sealer, None)?;
            finish(&disk)?;
            fs::rename(&built, &self.path)?;
            private::sync_folder(&self.path)?;
            Ok((disk, contents))
        });
        match placed {
            Ok((disk, contents)) => {
                self.tidy();
                Ok(opened(disk, contents, sealer, &metadata))
            }
            Err(fault) => {
                // What is left of it takes room, and is of no use.
                let _ = fs::remove_file(&built);
                Err(self.failure(fault))
            }
        }
    }

    /// Where a store is built before it is put in its place.
    fn unplaced(&self) -> PathBuf {
        self.path
            .with_file_name(format!(".{}.new", private::name(&self.path)))
    }

    /// Removes what a process that was killed left behind. Nobody else has the store open.
    fn tidy(&self) {
        if let Err(error) = private::remove(&self.unplaced()).and_then(|()| self.key.tidy()) {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "What is left beside the store and its key could not be removed"
            );
        }
    }

    /// The key for a store that is yet to be begun, made if there is none.
    fn key_for_new(&self, keys: Keys<'_>) -> Result<Arc<Sealer>, OpenFailure> {
        match self.key.load() {
            Err(KeyError::Missing(_)) if self.key.is_ours() => match keys {
                Keys::Drawn(key) => self.make(key),
                Keys::Known(_) => self.make(&RootKey::random().map_err(failed)?),
            },
            loaded => Ok(Arc::new(Sealer::new(&loaded?))),
        }
    }

    fn make(&self, key: &RootKey) -> Result<Arc<Sealer>, OpenFailure> {
        self.key.prepare_folder()?;
        let sealer = match self.key.make(key) {
            Ok(()) => Sealer::new(key),
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Sealer::new(&self.key.load()?)
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Arc::new(sealer))
    }

    fn failure(&self, fault: Fault) -> OpenFailure {
        let path = self.path.display();
        match fault {
            Fault::Failed(failure) => OpenFailure::Failed(failure),
            Fault::Damaged(cause) => OpenFailure::Failed(Failure {
                word: "damaged",
                cause,
            }),
            Fault::Locked | Fault::Gone => {
                OpenFailure::Refused(format!("the store {path} is in use by another process"))
            }
            Fault::OtherKey => OpenFailure::Barred {
                word: "key_mismatch",
                message: sealed_otherwise(&self.path),
            },
        }
    }
}

/// What to do about a store of another key.
pub(crate) fn sealed_otherwise(path: &Path) -> String {
    format!(
        "the store {} was sealed under another key than the one in Cache.Persistent.KeyFile; put that key back, \
         or remove the store to begin a new one",
        path.display()
    )
}

/// A store's file that is open.
struct Existing {
    file: File,
    metadata: Metadata,
    /// What keeps it from being written, while it can be read.
    unwritable: Option<Failure>,
}

fn is_unwritable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

impl From<Distrust> for OpenFailure {
    fn from(distrust: Distrust) -> Self {
        match distrust {
            Distrust::Refused(message) => Self::Refused(message),
            Distrust::Failed(error) => failed(error),
        }
    }
}

impl From<KeyError> for OpenFailure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Exposed(message) => Self::Refused(message),
            other => Self::Barred {
                word: other.word(),
                message: other.message().to_owned(),
            },
        }
    }
}

pub(crate) fn open_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    options.custom_flags(no_follow).open(path)
}

/// Opens the file at `path`, which a process that was killed may have left, or makes it for this user alone.
fn open_or_make(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match open_file(path, &mut options) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    options.create_new(true).mode(0o600);
    match open_file(path, &mut options) {
        // Another process was faster; its lock decides.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options.create_new(false);
            open_file(path, &mut options)
        }
        made => made,
    }
}

/// Refuses what only the operator can mend.
fn check(path: &Path, opened: io::Result<File>) -> Result<(File, Metadata), OpenFailure> {
    const LOOP: i32 = rustix::io::Errno::LOOP.raw_os_error();
    let refused = |what: &str| {
        OpenFailure::Refused(format!(
            "the store {} is {what}; name a file in Cache.Persistent.Path",
            path.display()
        ))
    };
    if opened.is_err()
        && let Err(Distrust::Refused(message)) = private::judge("store", path)
    {
        // A store that belongs to another user may be unreadable too; who it belongs to is the worse fault.
        return Err(OpenFailure::Refused(message));
    }
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(LOOP) => refused("a symbolic link"),
        _ if error.kind() == io::ErrorKind::IsADirectory => refused("a folder"),
        _ => failed(error),
    })?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(refused("no file"));
    }
    private::heed(private::judge("store", path))?;
    Ok((file, metadata))
}

fn failed(error: io::Error) -> OpenFailure {
    OpenFailure::Failed(error.into())
}

/// What an earlier process left word of.
pub(super) fn resumed(record: &[u8], sealer: &Sealer) -> Option<Resumed> {
    let bytes = sealer.open_header(&RESUMED, record).ok()?;
    decode_resumed(&bytes)
}

fn opened(disk: Disk, contents: Contents, sealer: &Arc<Sealer>, file: &Metadata) -> Opened {
    // What cannot be read is not known.
    let resumed = contents.resumed.and_then(|record| resumed(&record, sealer));
    Opened {
        disk,
        file: file.into(),
        sealer: Arc::clone(sealer),
        resumed,
        records: contents.records,
        is_new: contents.is_new,
    }
}

/// The folder may not be written. A confined process cannot get at one that was made after it began.
fn out_of_reach(error: io::Error) -> OpenFailure {
    let mut failure = Failure::from(error);
    if failure.word == "permission_denied" {
        failure.cause.push_str(
            "; let the agent's user write its folder, and if that was removed or made anew, restart the agent",
        );
    }
    OpenFailure::Failed(failure)
}
