//! Purges: one walk over the entries for all that wait for one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kms_agent_core::backend::{BackendError, BackendErrorKind};
use kms_agent_core::fleet::Removal;
use kms_agent_core::secret::{Scope, SecretId, SecretKey, SecretRef, VersionSelector};

use super::listing::SCAN_PAGE;
use super::report::ServiceLine;
use super::{SecretService, key_in};
use crate::shared_run::SharedRun;

/// Purges by name that wait for the next walk.
#[derive(Debug, Default)]
pub(super) struct Purges {
    /// The names, with nothing done about them yet.
    asked: Mutex<HashMap<Box<str>, PurgeOutcome>>,
    walk: SharedRun<Result<HashMap<Box<str>, PurgeOutcome>, PurgeFailure>>,
}

/// Outcome of a walk for one name.
#[derive(Clone, Copy, Debug, Default)]
struct PurgeOutcome {
    /// Number of entries found.
    count: usize,
    /// Failure that may have left some of them.
    failure: Option<PurgeFailure>,
}

/// A [`BackendError`] for all who asked.
type PurgeFailure = (BackendErrorKind, &'static str);

impl Purges {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, PurgeOutcome>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SecretService {
    /// Drops every version of the secret that `id` means, whether it was asked for by name or by ARN, from
    /// every tier, durably when it returns. A fetch that is under way is answered and not stored. Returns how
    /// many entries there were.
    pub async fn purge(&self, id: &SecretId) -> Result<usize, BackendError> {
        let name: Box<str> = id.name().into();
        let error = |(kind, context)| Err(BackendError::new(kind, context));
        let mut outcome = loop {
            self.purges
                .lock()
                .insert(name.clone(), PurgeOutcome::default());
            let walk = self.purges.walk.join(|| async {
                let names = std::mem::take(&mut *self.purges.lock());
                self.purge_names(names).await
            });
            match &*walk.await {
                Ok(outcomes) => {
                    // A caller that left in the middle of its walk has taken the name along.
                    if let Some(outcome) = outcomes.get(&name) {
                        break *outcome;
                    }
                }
                Err(failure) => return error(*failure),
            }
        };
        if outcome.count == 0 {
            // A walk shows what can be listed. Where there may be more, removing the key of a read fails.
            let current = SecretRef {
                id: id.clone(),
                selector: VersionSelector::CURRENT,
            };
            let key = key_in(self.scope(), current);
            outcome.failure = self.remove(&key).await.err().or(outcome.failure);
        }
        self.report_purge(ServiceLine::Purged, &name, outcome.count);
        outcome.failure.map_or(Ok(outcome.count), error)
    }

    async fn purge_names(
        &self,
        mut names: HashMap<Box<str>, PurgeOutcome>,
    ) -> Result<HashMap<Box<str>, PurgeOutcome>, PurgeFailure> {
        {
            // Alone for a moment, so that every fetch either was stored before or knows that it must not be.
            let _alone = self.writing.write().await;
            for name in names.keys() {
                let purged = Removal::Name(name.clone());
                self.negative.purge(&purged);
                self.purge_log.note(purged);
            }
        }
        for (name, outcome) in &mut names {
            let removal = Removal::Name(name.clone());
            outcome.failure = self.remove_from_fleet(&removal).await.err();
        }
        let walked = self.remove_names(&mut names).await;
        for name in names.keys() {
            self.watches.purged(&Removal::Name(name.clone()));
        }
        walked.map(|()| names)
    }

    /// Removes the entries of `names` in one walk.
    async fn remove_names(
        &self,
        names: &mut HashMap<Box<str>, PurgeOutcome>,
    ) -> Result<(), PurgeFailure> {
        let mut from = None;
        loop {
            let page = self.backend.scan(from, SCAN_PAGE).await;
            let page = page.map_err(|error| (error.kind(), error.context()))?;
            for item in page.items {
                // One that cannot be removed is no reason to keep the others.
                if let Some(outcome) = names.get_mut(item.key.secret.id.name()) {
                    outcome.count += 1;
                    outcome.failure = self.remove(&item.key).await.err().or(outcome.failure);
                }
            }
            from = page.next;
            if from.is_none() {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// The same for everything.
    pub async fn purge_all(&self) -> Result<usize, BackendError> {
        {
            let _alone = self.writing.write().await;
            self.purge_log.note(Removal::Everything);
            self.negative.purge(&Removal::Everything);
        }
        // No task writes an entry back meanwhile.
        let _together = self.writing.read().await;
        let stats = self.backend.stats().await;
        self.backend.clear().await?;
        let taken = self.remove_from_fleet(&Removal::Everything).await;
        self.watches.purged(&Removal::Everything);
        let count = stats.map_or(0, |stats| stats.entries);
        self.report_purge(ServiceLine::AllPurged, "", count);
        taken.map_or_else(
            |(kind, context)| Err(BackendError::new(kind, context)),
            |()| Ok(count),
        )
    }

    /// Drops the entries of a scope that stood in until the agent's own was known, and proved to be another.
    pub(super) async fn drop_scope(&self, scope: &Scope) {
        tracing::warn!(
            endpoint = &*scope.endpoint,
            "The store belongs to another endpoint or identity; its entries are discarded"
        );
        let mut from = None;
        // A failure is counted and logged by the backend's wrapper; no reader gets an entry that stays.
        while let Ok(page) = self.backend.scan(from, SCAN_PAGE).await {
            for item in page.items {
                if *item.key.scope == *scope {
                    let _ = self.remove(&item.key).await;
                }
            }
            from = page.next;
            if from.is_none() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Removes entries for every agent that shares the backend.
    async fn remove_from_fleet(&self, removal: &Removal) -> Result<(), PurgeFailure> {
        let Some(fleet) = self.backend.fleet() else {
            return Ok(());
        };
        let removed = fleet.remove(removal).await;
        removed.map_err(|error| (error.kind(), error.context()))
    }

    /// Removes one entry, so that it is not written back at the same time.
    async fn remove(&self, key: &SecretKey) -> Result<(), PurgeFailure> {
        let _together = self.writing.read().await;
        let removed = self.backend.remove(key).await;
        removed.map_err(|error| (error.kind(), error.context()))
    }
}
