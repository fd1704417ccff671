//! A cache that several agents share, as a port.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::backend::{BackendError, CacheEntry};
use crate::lifetime::{Lifetime, Timestamp};
use crate::secret::{SecretId, SecretKey};
use crate::source::{Purpose, SourceError};

/// The shared part of a backend whose server several agents use.
///
/// [`CacheBackend`](crate::CacheBackend) itself stays local: `put`, `remove` and `clear` touch this agent's own
/// entries. What other agents learn goes through this port:
///
/// * Of all agents that [`begin`](Self::begin) a fetch of one key, one leads it; the others wait for its outcome.
/// * An entry that a [`Lease`] stores is known to every connected agent within a second.
/// * A removal reaches every connected agent within a second. No write that began before it undoes it.
/// * While the server cannot be used, every fetch is led by its own agent, whose entries stay local.
#[async_trait]
pub trait Fleet: fmt::Debug + Send + Sync + 'static {
    /// Looks for an outcome of `key` that satisfies `wish`, waits for the agent that is fetching it, or takes the
    /// lease.
    async fn begin(&self, key: &SecretKey, wish: Wish<'_>) -> Begun;

    /// Removes what `removal` covers for every agent.
    ///
    /// Fails with [`Unavailable`](crate::backend::BackendErrorKind::Unavailable) where the server has not taken the
    /// removal; the backend then repeats it until the server takes it.
    async fn remove(&self, removal: &Removal) -> Result<(), BackendError>;
}

/// Entries that a purge removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// All entries.
    Everything,
    /// Every version of the secret of this name, asked for by name or by ARN.
    Name(Box<str>),
}

impl Removal {
    /// Returns whether an entry of `id` is removed.
    pub fn covers(&self, id: &SecretId) -> bool {
        match self {
            Self::Everything => true,
            Self::Name(name) => **name == *id.name(),
        }
    }
}

/// Outcome that a fetch is content with.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    /// Reason of the fetch. For [`RefreshNow`](Purpose::RefreshNow) only a fetch that began after this call
    /// satisfies; for [`Refresh`](Purpose::Refresh) a reader has an entry and waits for less time.
    pub purpose: Purpose,
    /// The present moment on the agent's timeline.
    pub now: Timestamp,
    /// Returns whether an entry with this lifetime makes the fetch unnecessary.
    pub satisfied_by: &'a (dyn Fn(&Lifetime) -> bool + Send + Sync),
}

impl fmt::Debug for Wish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wish")
            .field("purpose", &self.purpose)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// Outcome of [`Fleet::begin`].
#[derive(Debug)]
pub enum Begun {
    /// An entry that satisfies the wish.
    Found {
        /// The entry, which is held locally too.
        entry: CacheEntry,
        /// Whether another agent fetched it while this one waited.
        waited: bool,
    },
    /// Another agent's fetch failed or was refused a moment ago.
    Failed(Arc<SourceError>),
    /// This agent asks KMS.
    Leads(Box<dyn Lease>),
}

/// The right to fetch one key for all agents. It ends on drop; a lease that cannot be kept alive ends by itself.
#[async_trait]
pub trait Lease: fmt::Debug + Send + Sync {
    /// Holds `entry` locally and passes it on to the other agents in the background. Returns whether it is held:
    /// not if its key was removed since the lease began.
    async fn store(self: Box<Self>, entry: CacheEntry) -> Result<bool, BackendError>;

    /// Tells the other agents that KMS refused the key. A decision removes the entry for all of them.
    /// They remember a refusal for `remembered_for`, unless that is zero.
    async fn refuse(
        self: Box<Self>,
        error: &Arc<SourceError>,
        is_decision: bool,
        remembered_for: Duration,
    );

    /// Removes the entry for all agents: what KMS answered is not stored, and takes the place of what was.
    async fn discard(self: Box<Self>);

    /// Tells the other agents that KMS could not be asked, and when it is worth trying again.
    async fn fail(self: Box<Self>, error: &Arc<SourceError>, retry_after: Duration);
}
