//! Secrets that an operator wants cached from startup on.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kms_agent_core::secret::SecretRef;
use kms_agent_core::source::MAX_BATCH;
use kms_agent_core::{Backoff, jitter};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::service::SecretService;

/// Number of batches that are loaded at once.
const CONCURRENCY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);

/// Over how long the first calls of a fleet that starts together are spread.
const SPREAD: Duration = Duration::from_millis(200);

const BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_mins(2));

/// The list, and how far it has come.
#[derive(Debug, Default)]
pub struct Prefetch {
    items: Vec<SecretRef>,
    progress: Mutex<Vec<PrefetchState>>,
}

/// Progress of one secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PrefetchState {
    /// Not tried yet.
    #[default]
    Pending,
    /// Loaded.
    Done,
    /// Tried and not had; it is tried again in the background.
    Failed {
        /// Code of the failure.
        code: String,
    },
}

/// The list in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefetchCounts {
    /// All of them.
    pub total: usize,
    /// Loaded.
    pub done: usize,
    /// Tried and not had.
    pub failed: usize,
}

impl PrefetchCounts {
    /// Whether each has been tried once.
    pub fn first_pass_is_over(self) -> bool {
        self.done + self.failed == self.total
    }
}

impl Prefetch {
    /// A list of which nothing is loaded yet.
    pub fn new(items: Vec<SecretRef>) -> Arc<Self> {
        let progress = Mutex::new(vec![PrefetchState::Pending; items.len()]);
        Arc::new(Self { items, progress })
    }

    /// The list in numbers.
    pub fn counts(&self) -> PrefetchCounts {
        let progress = self.lock();
        let count =
            |pick: fn(&PrefetchState) -> bool| progress.iter().filter(|state| pick(state)).count();
        PrefetchCounts {
            total: progress.len(),
            done: count(|state| *state == PrefetchState::Done),
            failed: count(|state| matches!(state, PrefetchState::Failed { .. })),
        }
    }

    /// The list in full.
    pub fn list(&self) -> Vec<(SecretRef, PrefetchState)> {
        self.items
            .iter()
            .cloned()
            .zip(self.lock().iter().cloned())
            .collect()
    }

    /// Loads every secret of the list that is not loaded yet, trying again what fails, and returns when all are
    /// loaded. A panic in one of the loads becomes a panic of this call, which may be repeated.
    pub async fn run(self: Arc<Self>, service: Arc<SecretService>) {
        let places = Arc::new(Semaphore::new(CONCURRENCY.get()));
        let mut loading = JoinSet::new();
        let pending: Vec<_> = self
            .list()
            .into_iter()
            .enumerate()
            .filter(|(_, (_, state))| *state != PrefetchState::Done)
            .map(|(index, (secret, _))| (index, secret))
            .collect();
        for batch in pending.chunks(MAX_BATCH) {
            let (this, service, places) =
                (Arc::clone(&self), Arc::clone(&service), Arc::clone(&places));
            let batch = batch.to_vec();
            loading.spawn(async move { this.load(batch, &service, &places).await });
        }
        while let Some(loaded) = loading.join_next().await {
            if let Err(error) = loaded
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }

    async fn load(
        &self,
        mut pending: Vec<(usize, SecretRef)>,
        service: &Arc<SecretService>,
        places: &Semaphore,
    ) {
        service.timeline().sleep(jitter::up_to(SPREAD)).await;
        for failures in 0.. {
            let secrets: Vec<_> = pending.iter().map(|(_, secret)| secret.clone()).collect();
            let results = {
                // The semaphore is never closed.
                let _place = places.acquire().await;
                service.read_all(&secrets).await
            };
            let mut failed = Vec::new();
            for ((index, secret), result) in pending.into_iter().zip(results) {
                match result {
                    Ok(_) => self.note(index, PrefetchState::Done),
                    Err(error) => {
                        let code = error.code().to_owned();
                        self.note(index, PrefetchState::Failed { code });
                        failed.push((index, secret));
                    }
                }
            }
            if failed.is_empty() {
                return;
            }
            pending = failed;
            service.timeline().sleep(BACKOFF.pause(failures)).await;
        }
    }

    fn note(&self, index: usize, state: PrefetchState) {
        if let Some(slot) = self.lock().get_mut(index) {
            *slot = state;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PrefetchState>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
