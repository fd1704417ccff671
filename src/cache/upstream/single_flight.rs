//! Single-flight: one upstream call for a key, however many readers wait for it.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kms_agent_core::secret::SecretKey;
use kms_agent_core::source::SendGate;
use tokio::sync::watch;

type FetchFn<T> = Box<dyn FnOnce(SendGate) -> Pin<Box<dyn Future<Output = T> + Send>> + Send>;

/// Fetch that a reader may join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// Any fetch that is under way.
    Any,
    /// Only a fetch that begins after this moment: the result of a running one may be older than the request.
    Next,
}

/// Rule for a fetch whose readers have all left before its call was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abandonment {
    /// The fetch is dropped.
    Drop,
    /// The fetch continues: the cache itself needs the answer.
    Continue,
}

/// Fetches under way: for each key at most one running and one queued behind it.
///
/// A fetch is a task of its own. A call that was sent is never cancelled by a reader that leaves.
pub(crate) struct SingleFlight<T>(Arc<Mutex<Fetches<T>>>);

type Fetches<T> = HashMap<SecretKey, KeyFetches<T>>;

struct KeyFetches<T> {
    running: RunningFetch<T>,
    queued: Option<QueuedFetch<T>>,
}

struct RunningFetch<T> {
    sender: watch::Sender<Option<T>>,
    abandonment: Abandonment,
}

struct QueuedFetch<T> {
    fetch: FetchFn<T>,
    running: RunningFetch<T>,
}

/// A reader's claim to the outcome of a fetch.
pub(crate) struct Waiter<T> {
    outcome: watch::Receiver<Option<T>>,
    /// Whether the fetch was started for another reader.
    pub(crate) joined: bool,
}

/// Decision on a fetch that no reader waits for.
enum Abandoned<T> {
    /// A reader has joined meanwhile.
    Wanted,
    /// The fetch continues.
    Continues,
    /// The fetch is dropped, and the queued one takes its place.
    Dropped(Option<QueuedFetch<T>>),
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Joins a fetch of `key`, or starts or queues `fetch` where there is none that `join` allows.
    pub(crate) fn join<F>(
        &self,
        key: &SecretKey,
        join: Join,
        abandonment: Abandonment,
        fetch: impl FnOnce(SendGate) -> F + Send + 'static,
    ) -> Waiter<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut fetches = lock(&self.0);
        if let Some(of_key) = fetches.get_mut(key) {
            let (outcome, joined) = match (join, &mut of_key.queued) {
                (Join::Any, _) => (of_key.running.join(abandonment), true),
                (Join::Next, Some(queued)) => (queued.running.join(abandonment), true),
                (Join::Next, None) => {
                    let (queued, outcome) = QueuedFetch::new(abandonment, fetch);
                    of_key.queued = Some(queued);
                    (outcome, false)
                }
            };
            return Waiter { outcome, joined };
        }
        let (first, outcome) = QueuedFetch::new(abandonment, fetch);
        fetches.insert(
            key.clone(),
            KeyFetches {
                running: first.running.share(),
                queued: None,
            },
        );
        drop(fetches);
        tokio::spawn(run_in_turn(Arc::clone(&self.0), key.clone(), first));
        Waiter {
            outcome,
            joined: false,
        }
    }
}

impl<T: Clone> RunningFetch<T> {
    fn join(&mut self, abandonment: Abandonment) -> watch::Receiver<Option<T>> {
        if abandonment == Abandonment::Continue {
            self.abandonment = abandonment;
        }
        self.sender.subscribe()
    }

    fn share(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            abandonment: self.abandonment,
        }
    }
}

impl<T: Clone> QueuedFetch<T> {
    fn new<F>(
        abandonment: Abandonment,
        fetch: impl FnOnce(SendGate) -> F + Send + 'static,
    ) -> (Self, watch::Receiver<Option<T>>)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (sender, outcome) = watch::channel(None);
        let queued = Self {
            fetch: Box::new(move |gate| Box::pin(fetch(gate))),
            running: RunningFetch {
                sender,
                abandonment,
            },
        };
        (queued, outcome)
    }
}

/// Runs `first`, then each fetch that was queued behind it meanwhile.
async fn run_in_turn<T: Clone + Send + Sync + 'static>(
    fetches: Arc<Mutex<Fetches<T>>>,
    key: SecretKey,
    first: QueuedFetch<T>,
) {
    let mut next = Some(first);
    while let Some(QueuedFetch { fetch, running }) = next {
        let sender = running.sender;
        let gate = SendGate::default();
        // A task of its own, so that a panic in it blocks no reader: readers see that the sender is gone.
        let mut task = tokio::spawn(fetch(gate.clone()));
        next = loop {
            let outcome = tokio::select! {
                biased;
                outcome = &mut task => outcome,
                () = sender.closed() => match abandon(&fetches, &key, &gate) {
                    Abandoned::Wanted => continue,
                    Abandoned::Continues => (&mut task).await,
                    Abandoned::Dropped(queued) => {
                        task.abort();
                        break queued;
                    }
                },
            };
            // The entry is cleared before the outcome is announced: a reader that comes after the
            // announcement starts another fetch.
            let queued = clear(&mut lock(&fetches), &key);
            sender.send_replace(outcome.ok());
            break queued;
        };
    }
}

/// Decides on the running fetch of `key`, whose readers have all left.
fn abandon<T: Clone>(
    fetches: &Mutex<Fetches<T>>,
    key: &SecretKey,
    gate: &SendGate,
) -> Abandoned<T> {
    let mut fetches = lock(fetches);
    match fetches.get(key).map(|of_key| &of_key.running) {
        Some(running) if running.sender.receiver_count() > 0 => Abandoned::Wanted,
        Some(running) if running.abandonment == Abandonment::Drop && gate.give_up() => {
            Abandoned::Dropped(clear(&mut fetches, key))
        }
        _ => Abandoned::Continues,
    }
}

fn clear<T: Clone>(fetches: &mut Fetches<T>, key: &SecretKey) -> Option<QueuedFetch<T>> {
    let queued = fetches.get_mut(key).and_then(|of_key| {
        let queued = of_key.queued.take()?;
        of_key.running = queued.running.share();
        Some(queued)
    });
    if queued.is_none() {
        fetches.remove(key);
    }
    queued
}

impl<T: Clone> Waiter<T> {
    /// Waits for the outcome; `None` when the fetch panicked.
    pub(crate) async fn outcome(mut self) -> Option<T> {
        self.outcome.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl<T> fmt::Debug for SingleFlight<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SingleFlight({} under way)", lock(&self.0).len())
    }
}

fn lock<T>(fetches: &Mutex<Fetches<T>>) -> MutexGuard<'_, Fetches<T>> {
    fetches.lock().unwrap_or_else(PoisonError::into_inner)
}
