//! Reads of several secrets, whose calls to KMS are made as one.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kms_agent_core::secret::{Fetched, Scope, SecretRef};
use kms_agent_core::source::{
    BatchItem, BatchOutcome, BatchRequest, MAX_BATCH, OVERALL_TIMEOUT, Purpose, SendGate,
    SourceError, SourceErrorKind,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::SecretService;
use crate::answer::{Answer, Demand};

/// The longest that the fetches of a batch wait for each other. They do not wait for one that needs no call.
const GATHERING: Duration = Duration::from_millis(200);

/// Time in which no batch is tried after KMS has refused one as a whole.
const REFUSAL_MEMORY: Duration = Duration::from_hours(1);

/// Seats of the fetches that share a call, and the refusals of whole batches.
#[derive(Debug, Default)]
pub(super) struct Batches(Mutex<BatchState>);

#[derive(Debug, Default)]
struct BatchState {
    seats: HashMap<SecretRef, BatchSeat>,
    /// Number of the last batch.
    last_number: u64,
    /// Scopes in which KMS has refused a batch as a whole, and until when none is tried, in boot time.
    refused: HashMap<Arc<Scope>, Duration>,
}

/// Right of one fetch to the shared call. The batch has gathered its fetches when no seat is left.
#[derive(Debug)]
struct BatchSeat {
    batch: u64,
    fetches: mpsc::UnboundedSender<BatchedFetch>,
}

/// A fetch that waits for the shared call.
struct BatchedFetch {
    item: BatchItem,
    gate: SendGate,
    outcome: oneshot::Sender<BatchOutcome>,
}

impl Batches {
    fn lock(&self) -> MutexGuard<'_, BatchState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seats a fetch of each secret in a batch, and returns the number of the batch.
    fn seat(&self, secrets: &[SecretRef], fetches: &mpsc::UnboundedSender<BatchedFetch>) -> u64 {
        let mut state = self.lock();
        state.last_number += 1;
        let batch = state.last_number;
        for secret in secrets {
            let fetches = fetches.clone();
            state
                .seats
                .insert(secret.clone(), BatchSeat { batch, fetches });
        }
        batch
    }

    /// Gives up the seat of a secret that needed no call.
    fn leave(&self, secret: &SecretRef, batch: u64) {
        let mut state = self.lock();
        if state
            .seats
            .get(secret)
            .is_some_and(|seat| seat.batch == batch)
        {
            state.seats.remove(secret);
        }
    }

    /// Whether a batch may be tried in `scope` at `now`.
    fn may_try(&self, scope: Option<&Arc<Scope>>, now: Duration) -> bool {
        let mut state = self.lock();
        state.refused.retain(|_, until| now < *until);
        scope.is_none_or(|scope| !state.refused.contains_key(scope))
    }

    fn refuse(&self, scope: Option<Arc<Scope>>, until: Duration) {
        if let Some(scope) = scope {
            self.lock().refused.insert(scope, until);
        }
    }
}

impl SecretService {
    /// Reads several secrets, in their order. Those that KMS must be asked for share calls.
    pub async fn read_all(
        self: &Arc<Self>,
        secrets: &[SecretRef],
    ) -> Vec<Result<Answer, Arc<SourceError>>> {
        let arrived_at = self.boot();
        let mut batch = 0;
        if secrets.len() > 1 && self.batches.may_try(self.scope().as_ref(), arrived_at) {
            let (sender, fetches) = mpsc::unbounded_channel();
            batch = self.batches.seat(secrets, &sender);
            // A task of its own: the fetches outlive the reader.
            let service = Arc::clone(self);
            tokio::spawn(async move { service.run_batch(fetches, arrived_at).await });
        }
        let mut reading = JoinSet::new();
        for (index, secret) in secrets.iter().enumerate() {
            let (service, secret) = (Arc::clone(self), secret.clone());
            reading.spawn(async move {
                let answer = service.read(&secret, Demand::Any).await;
                service.batches.leave(&secret, batch);
                (index, answer)
            });
        }
        let mut answers: Vec<_> = secrets
            .iter()
            .map(|_| Err(super::read::crashed()))
            .collect();
        while let Some(read) = reading.join_next().await {
            if let Ok((index, answer)) = read
                && let Some(slot) = answers.get_mut(index)
            {
                *slot = answer;
            }
        }
        answers
    }

    /// Has the batch that waits for a fetch of `secret` make it. `None` where there is none, or the batch brought no
    /// outcome; then the secret is asked for by itself.
    pub(super) async fn fetch_in_batch(&self, secret: &SecretRef, gate: &SendGate) -> BatchOutcome {
        let seat = self.batches.lock().seats.remove(secret)?;
        let (sender, outcome) = oneshot::channel();
        let fetch = BatchedFetch {
            item: BatchItem {
                secret: secret.clone(),
                extended_config: self.policy.load().wants_extended_config(&secret.id),
            },
            gate: gate.clone(),
            outcome: sender,
        };
        seat.fetches.send(fetch).ok()?;
        drop(seat);
        outcome.await.ok().flatten()
    }

    /// Gathers the fetches of a batch and makes their calls.
    async fn run_batch(
        &self,
        mut fetches: mpsc::UnboundedReceiver<BatchedFetch>,
        arrived_at: Duration,
    ) {
        let mut gathered = Vec::new();
        {
            let mut patience = pin!(self.timeline.sleep(GATHERING));
            loop {
                tokio::select! {
                    biased;
                    fetch = fetches.recv() => match fetch {
                        Some(fetch) => gathered.push(fetch),
                        None => break,
                    },
                    () = &mut patience => break,
                }
            }
        }
        fetches.close();
        while let Ok(fetch) = fetches.try_recv() {
            gathered.push(fetch);
        }
        // KMS takes each secret once; another version of one is asked for by itself.
        let mut names = HashSet::new();
        gathered.retain(|fetch| names.insert(fetch.item.secret.id.name().to_owned()));
        while gathered.len() > 1 {
            let rest = gathered.split_off(gathered.len().min(MAX_BATCH));
            let batch = std::mem::replace(&mut gathered, rest);
            self.call_batch(batch, arrived_at).await;
        }
    }

    async fn call_batch(&self, mut batch: Vec<BatchedFetch>, arrived_at: Duration) {
        let clock = &**self.timeline.clock();
        let purpose = Purpose::Read;
        let permit = self
            .calls
            .acquire(purpose, clock, arrived_at + OVERALL_TIMEOUT)
            .await;
        if permit.is_err() {
            return;
        }
        batch.retain(|fetch| fetch.gate.pass());
        let items: Vec<BatchItem> = batch.iter().map(|fetch| fetch.item.clone()).collect();
        let source = Arc::clone(&self.source.load());
        let request = BatchRequest {
            secrets: &items,
            purpose,
            arrived_at,
        };
        match source.fetch_batch(request).await {
            Ok(outcomes) => {
                for (fetch, outcome) in batch.into_iter().zip(outcomes) {
                    let _ = fetch.outcome.send(outcome);
                }
            }
            // The gateway may be one that does not know batches.
            Err(error) if error.kind() == SourceErrorKind::InvalidAnswer => {}
            Err(error) if error.kind().is_transient() => {
                for fetch in batch {
                    let outcome: Result<Fetched, _> = Err(error.repeated());
                    let _ = fetch.outcome.send(Some(outcome));
                }
            }
            Err(error) => {
                tracing::info!(
                    code = error.code(),
                    "KMS refused a batch; secrets are asked for one by one for an hour"
                );
                self.batches
                    .refuse(source.scope(), self.boot() + REFUSAL_MEMORY);
            }
        }
    }
}
