//! One fetch for the fleet: who asks KMS, and what the others learn of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kms_agent_core::backend::BackendErrorKind;
use kms_agent_core::fleet::{Begun, Fleet, Wish};
use kms_agent_core::secret::SecretKey;
use kms_agent_core::source::Purpose;
use kms_agent_core::{BackendError, Removal};

use crate::backend::RedisBackend;
use crate::lease::{LocalLease, SharedLease};
use crate::record::{Mark, random_mark};
use crate::server::{Looked, OwnRemoval, Session};

/// Longest wait for another agent by a reader without an entry.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait by a reader with an entry.
const PATIENCE_WITH_ENTRY: Duration = Duration::from_secs(2);

#[async_trait]
impl Fleet for RedisBackend {
    async fn begin(&self, key: &SecretKey, wish: Wish<'_>) -> Begun {
        self.link.learn_origin(wish.now);
        let alone = LocalLease::new(&self.link, key);
        if let Some(entry) = self.satisfying_entry(key, wish) {
            return Begun::Found {
                entry,
                waited: false,
            };
        }
        // Before the session: what that shows may have been removed since.
        let mark = self.link.local().mark();
        let (Some(session), Ok(id)) = (self.link.session_or_first().await, random_mark()) else {
            return Begun::Leads(Box::new(alone));
        };
        let outcome = self.begin_shared(session, mark, key, &id, wish).await;
        outcome.unwrap_or_else(|| Begun::Leads(Box::new(alone)))
    }

    async fn remove(&self, removal: &Removal) -> Result<(), BackendError> {
        let made = self.link.remove(OwnRemoval::Purge(removal.clone())).await;
        made.map_err(|trouble| {
            let error = BackendError::new(
                BackendErrorKind::Unavailable,
                "the shared cache server has not accepted the removal yet",
            );
            match trouble {
                Some(trouble) => error.with_cause(trouble.cause),
                None => error,
            }
        })
    }
}

impl RedisBackend {
    /// Returns the local entry where it satisfies `wish`.
    fn satisfying_entry(
        &self,
        key: &SecretKey,
        wish: Wish<'_>,
    ) -> Option<kms_agent_core::CacheEntry> {
        if wish.purpose == Purpose::RefreshNow {
            return None;
        }
        let mut local = self.link.local();
        let found = local.find(key, wish.now)?;
        let is_confirmed = found.state == crate::local::State::Confirmed;
        let entry = local.open(&found)?;
        (is_confirmed && (wish.satisfied_by)(&entry.lifetime)).then_some(entry)
    }

    /// Takes the lease, or waits for the agent that has it. `None`: this agent asks KMS for itself.
    async fn begin_shared(
        &self,
        session: Arc<Session>,
        mark: crate::local::Moment,
        key: &SecretKey,
        id: &Mark,
        wish: Wish<'_>,
    ) -> Option<Begun> {
        let (mut session, mut mark) = (session, mark);
        let patience = match wish.purpose {
            Purpose::Refresh => PATIENCE_WITH_ENTRY,
            Purpose::Read | Purpose::RefreshNow | Purpose::Watch => PATIENCE,
        };
        let clock = &self.link.clock;
        let deadline = clock.boot() + patience;
        let mut waiter = None;
        // Leases that began before this call; what they store does not satisfy `refreshNow`.
        let mut earlier: Option<Vec<Mark>> = None;
        loop {
            let looked = match session.begin(key, id).await {
                Ok(looked) => looked,
                Err(trouble) => {
                    self.link.failed(trouble);
                    return None;
                }
            };
            let is_holder = looked.holder.as_ref() == Some(id);
            let earlier = earlier.get_or_insert_with(|| earlier_leases(&looked, id));
            let is_new =
                |lease: &Mark| wish.purpose != Purpose::RefreshNow || !earlier.contains(lease);
            let has_waited = waiter.is_some();
            if let Some(begun) = self.outcome(key, &looked, wish, mark, has_waited, is_new) {
                if is_holder {
                    SharedLease::new(&self.link, &session, key, *id, Vec::new(), mark).end();
                }
                return Some(begun);
            }
            if is_holder {
                let generation = looked.generation.unwrap_or_default();
                let lease = SharedLease::new(&self.link, &session, key, *id, generation, mark);
                lease.keep_alive();
                return Some(Begun::Leads(Box::new(lease)));
            }
            if let Some(trouble) = looked.refused {
                self.link.failed(trouble);
                return None;
            }
            let now = clock.boot();
            if now >= deadline {
                return None;
            }
            let place = session.keyring.place_id(key);
            let waiter = waiter.get_or_insert_with(|| self.link.wait_for(place));
            let lease_end = now + self.link.lease_time;
            waiter.wait(deadline.min(lease_end)).await;
            mark = self.link.local().mark();
            session = self.link.session()?;
        }
    }

    /// Returns what the server holds, where it makes a fetch unnecessary.
    fn outcome(
        &self,
        key: &SecretKey,
        looked: &Looked,
        wish: Wish<'_>,
        mark: crate::local::Moment,
        waited: bool,
        is_new: impl Fn(&Mark) -> bool,
    ) -> Option<Begun> {
        if let Some(record) = &looked.record {
            let satisfies = match wish.purpose {
                Purpose::RefreshNow => true,
                Purpose::Read | Purpose::Refresh | Purpose::Watch => {
                    (wish.satisfied_by)(&record.entry.lifetime)
                }
            };
            if is_new(&record.lease) && satisfies && self.take(key, record, mark) {
                return Some(Begun::Found {
                    entry: record.entry.clone(),
                    waited,
                });
            }
        }
        match &looked.note {
            Some((lease, error)) if is_new(lease) => Some(Begun::Failed(Arc::clone(error))),
            _ => None,
        }
    }
}

fn earlier_leases(looked: &Looked, own: &Mark) -> Vec<Mark> {
    let record = looked.record.as_ref().map(|record| record.lease);
    let note = looked.note.as_ref().map(|(lease, _)| *lease);
    let holder = looked.holder.filter(|holder| holder != own);
    [record, note, holder].into_iter().flatten().collect()
}
