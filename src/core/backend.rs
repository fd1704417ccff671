//! Store of entries, as a port.

use std::error::Error;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;

use crate::fleet::Fleet;
use crate::lifetime::{Lifetime, Timestamp};
use crate::secret::{Scope, Secret, SecretKey};

/// A cache's store.
///
/// A backend stores; what is fresh, and when to ask KMS, the agent decides. It has no clock of its own: every
/// judgement about time comes in as `now`. What implementers promise, clause by clause, is what the
/// conformance suite tests:
///
/// * [`get`](Self::get) returns what the last [`put`](Self::put) of that key stored, byte for byte, also when
///   it has expired, until its `usable_until`; from then on never. Another key's entry is never returned.
/// * A `put` replaces. A reader sees the old entry or the new one, nothing in between.
/// * After [`remove`](Self::remove) or [`clear`](Self::clear) has returned, nothing that was put before is
///   returned again, in this process or a later one.
/// * Every error leaves the backend usable: the caller treats a failed `get` as a miss and goes on.
/// * Dropping a call's future leaves the operation done or not done.
/// * At most the capacity given at opening is held soon after a write, the least recently used going first.
/// * A value that is removed, replaced, evicted or dead is wiped by the time the next [`sweep`](Self::sweep)
///   has returned, except where a reader still holds it.
///
/// There are no default methods, so that a wrapper cannot forget one.
///
/// # Example
///
/// `backends/files` is a complete backend to copy. A caller works with any of them:
///
/// ```
/// use std::num::NonZeroUsize;
///
/// use kms_agent_core::{BackendError, CacheBackend};
///
/// /// Counts the entries of a backend by walking over its pages.
/// async fn count(backend: &dyn CacheBackend) -> Result<usize, BackendError> {
///     let (mut entries, mut from) = (0, None);
///     loop {
///         let page = backend.scan(from, NonZeroUsize::MIN.saturating_add(127)).await?;
///         entries += page.items.len();
///         from = page.next;
///         if from.is_none() {
///             return Ok(entries);
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait CacheBackend: fmt::Debug + Send + Sync + 'static {
    /// Name and properties. Cheap, and the same at every call.
    fn info(&self) -> BackendInfo;

    /// The entry of `key`, expired ones too; `None` if there is none or it is dead at `now`.
    async fn get(
        &self,
        key: &SecretKey,
        now: Timestamp,
    ) -> Result<Option<CacheEntry>, BackendError>;

    /// Stores `entry` in place of what is there. Durable only after [`flush`](Self::flush).
    async fn put(&self, key: &SecretKey, entry: CacheEntry) -> Result<(), BackendError>;

    /// Drops the entry of `key`, durably when it returns. Success if there was none;
    /// [`Unavailable`](BackendErrorKind::Unavailable) where the backend cannot know that, because a store that an
    /// earlier process filled cannot be opened.
    async fn remove(&self, key: &SecretKey) -> Result<(), BackendError>;

    /// Drops every entry, durably when it returns. Fails as [`remove`](Self::remove) does.
    async fn clear(&self) -> Result<(), BackendError>;

    /// Lists at most `limit` entries from `from` on, without their values. Going on from each page's `next`
    /// visits every entry that was there all along exactly once.
    async fn scan(
        &self,
        from: Option<ScanCursor>,
        limit: NonZeroUsize,
    ) -> Result<ScanPage, BackendError>;

    /// State of the backend, to be shown to operators: no caller decides by it.
    async fn stats(&self) -> Result<BackendStats, BackendError>;

    /// Wipes what is dead at `now` or over capacity. Called every second, on an idle agent too, so it must
    /// not walk over what is neither.
    async fn sweep(&self, now: Timestamp) -> Result<(), BackendError>;

    /// Says that the wall clock is right. Until then nothing is lost for good by what it shows: an earlier
    /// process's entries that are dead only if the clock is right are not returned, and not removed either.
    fn confirm_clock(&self);

    /// The part that other agents share; `None` for a store of this agent alone.
    fn fleet(&self) -> Option<&dyn Fleet>;

    /// Makes every acknowledged put survive a crash.
    async fn flush(&self) -> Result<(), BackendError>;

    /// Flushes, wipes and lets go. Everything after it is an error of kind [`Closed`](BackendErrorKind::Closed).
    async fn close(&self) -> Result<(), BackendError>;
}

/// Cached entry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CacheEntry {
    /// The answer.
    pub secret: Secret,
    /// The instants it is judged by.
    pub lifetime: Lifetime,
}

/// Name and properties of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// The name it goes by in `CacheType`.
    pub name: &'static str,
    /// Whether entries survive the process.
    pub durable: bool,
    /// State that the previous process left in the store.
    pub resumed: Option<Resumed>,
}

/// State of the previous process, for an agent that starts without network or with a wrong clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The scope it last stored an entry under.
    pub scope: Arc<Scope>,
    /// The latest moment that it wrote down, on its own timeline; no entry was fetched later.
    pub written_at: Timestamp,
    /// Wall time at [`counted_from`](Self::counted_from), when it was last known to be right or
    /// when the store was new.
    pub wall_at: Timestamp,
    /// The moment on the same timeline that time away is counted from by the wall clock. Not later than
    /// [`written_at`](Self::written_at).
    pub counted_from: Timestamp,
}

/// State of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendStats {
    /// Entries held, dead ones included until they are swept.
    pub entries: usize,
    /// The most that may be held.
    pub capacity: usize,
    /// The store on disk, if there is one.
    pub store: Option<StoreStats>,
}

/// State of a store on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStats {
    /// Path of the store.
    pub path: std::path::PathBuf,
    /// Its size, where it belongs to this agent alone.
    pub bytes: Option<u64>,
    /// `None` while all is well, else a word for what is wrong.
    pub trouble: Option<&'static str>,
    /// Number of failures of its background work, such as writing behind, since it was opened.
    pub failures: u64,
    /// Moment before which every put is durable: when the last committed batch of writes began.
    pub committed_at: Option<Timestamp>,
}

/// A place in a scan, to be handed back as it was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScanCursor(pub Box<[u8]>);

/// Part of a scan.
#[derive(Clone, Debug, Default)]
pub struct ScanPage {
    /// The entries, in the order of the scan.
    pub items: Vec<ScanItem>,
    /// Cursor of the next page; `None` after the last.
    pub next: Option<ScanCursor>,
}

/// One entry of a scan, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanItem {
    /// Its key.
    pub key: SecretKey,
    /// The version it holds.
    pub version_id: Arc<str>,
    /// The instants it is judged by.
    pub lifetime: Lifetime,
    /// Number of times that `get` found this key, in this process and since it was last absent.
    pub hits: u64,
}

/// Kind of a backend's failure; each says what the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendErrorKind {
    /// No answer in time. Go on without.
    TimedOut,
    /// The medium failed: full, read-only, broken. Go on without; the backend heals itself.
    Unavailable,
    /// The entry cannot be read back. It has been removed; treat it as a miss.
    Damaged,
    /// The backend was closed.
    Closed,
}

impl BackendErrorKind {
    /// A word for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::Unavailable => "unavailable",
            Self::Damaged => "damaged",
            Self::Closed => "closed",
        }
    }
}

/// A store operation that failed. Never a reason to fail a read.
#[derive(Debug, thiserror::Error)]
#[error("cache backend: {context}")]
pub struct BackendError {
    kind: BackendErrorKind,
    context: &'static str,
    #[source]
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl BackendError {
    /// An error of `kind`; `context` says what was being done.
    pub const fn new(kind: BackendErrorKind, context: &'static str) -> Self {
        Self {
            kind,
            context,
            cause: None,
        }
    }

    /// Adds what lies underneath.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Kind of the failure.
    pub fn kind(&self) -> BackendErrorKind {
        self.kind
    }

    /// Operation that failed.
    pub fn context(&self) -> &'static str {
        self.context
    }
}
