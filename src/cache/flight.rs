//! One upstream call per key, however many readers wait for it.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kms_agent_core::secret::SecretKey;
use kms_agent_core::source::SendGate;
use tokio::sync::watch;

type Fly<T> = Box<dyn FnOnce(SendGate) -> Pin<Box<dyn Future<Output = T> + Send>> + Send>;

/// Which flight a reader may board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boarding {
    /// Any that is under way.
    Any,
    /// Only one that begins after this moment: what a running one brings may be older than the reader's
    /// wish.
    Next,
}

/// What becomes of a flight when every reader has left before its call was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abandonment {
    /// It is dropped.
    Drop,
    /// It goes on: the cache itself wants the answer.
    Continue,
}

/// The flights under way: per key at most one running and one queued behind it.
///
/// A flight is a task of its own. A call that was sent is never cancelled by a reader that leaves.
pub(crate) struct Flights<T>(Arc<Mutex<Routes<T>>>);

type Routes<T> = HashMap<SecretKey, Route<T>>;

struct Route<T> {
    running: Running<T>,
    queued: Option<Queued<T>>,
}

struct Running<T> {
    landed: watch::Sender<Option<T>>,
    abandonment: Abandonment,
}

struct Queued<T> {
    fly: Fly<T>,
    running: Running<T>,
}

/// A seat on a flight.
pub(crate) struct Ticket<T> {
    landing: watch::Receiver<Option<T>>,
    /// Whether somebody else's flight was joined.
    pub(crate) joined: bool,
}

/// What is done with a flight that no reader waits for.
enum Fate<T> {
    /// A reader has boarded meanwhile.
    Wanted,
    /// It flies on.
    Committed,
    /// It is dropped, and the queued one takes its place.
    Dropped(Option<Queued<T>>),
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Takes a seat on a flight of `key`, starting or queueing one with `fly` where none will do.
    pub(crate) fn board<F>(
        &self,
        key: &SecretKey,
        boarding: Boarding,
        abandonment: Abandonment,
        fly: impl FnOnce(SendGate) -> F + Send + 'static,
    ) -> Ticket<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut routes = lock(&self.0);
        if let Some(route) = routes.get_mut(key) {
            let (landing, joined) = match (boarding, &mut route.queued) {
                (Boarding::Any, _) => (route.running.join(abandonment), true),
                (Boarding::Next, Some(queued)) => (queued.running.join(abandonment), true),
                (Boarding::Next, None) => {
                    let (queued, landing) = Queued::new(abandonment, fly);
                    route.queued = Some(queued);
                    (landing, false)
                }
            };
            return Ticket { landing, joined };
        }
        let (first, landing) = Queued::new(abandonment, fly);
        routes.insert(
            key.clone(),
            Route {
                running: first.running.share(),
                queued: None,
            },
        );
        drop(routes);
        tokio::spawn(take_off(Arc::clone(&self.0), key.clone(), first));
        Ticket {
            landing,
            joined: false,
        }
    }
}

impl<T: Clone> Running<T> {
    fn join(&mut self, abandonment: Abandonment) -> watch::Receiver<Option<T>> {
        if abandonment == Abandonment::Continue {
            self.abandonment = abandonment;
        }
        self.landed.subscribe()
    }

    fn share(&self) -> Self {
        Self {
            landed: self.landed.clone(),
            abandonment: self.abandonment,
        }
    }
}

impl<T: Clone> Queued<T> {
    fn new<F>(
        abandonment: Abandonment,
        fly: impl FnOnce(SendGate) -> F + Send + 'static,
    ) -> (Self, watch::Receiver<Option<T>>)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (landed, landing) = watch::channel(None);
        let queued = Self {
            fly: Box::new(move |gate| Box::pin(fly(gate))),
            running: Running {
                landed,
                abandonment,
            },
        };
        (queued, landing)
    }
}

/// Flies `first` and whatever has queued behind it meanwhile.
async fn take_off<T: Clone + Send + Sync + 'static>(
    routes: Arc<Mutex<Routes<T>>>,
    key: SecretKey,
    first: Queued<T>,
) {
    let mut next = Some(first);
    while let Some(Queued { fly, running }) = next {
        let landed = running.landed;
        let gate = SendGate::default();
        // A task of its own, so that a panic in it strands nobody: its readers see the sender go.
        let mut flight = tokio::spawn(fly(gate.clone()));
        next = loop {
            let outcome = tokio::select! {
                biased;
                outcome = &mut flight => outcome,
                () = landed.closed() => match fate(&routes, &key, &gate) {
                    Fate::Wanted => continue,
                    Fate::Committed => (&mut flight).await,
                    Fate::Dropped(queued) => {
                        flight.abort();
                        break queued;
                    }
                },
            };
            // The route is cleared before the landing is announced: whoever comes after the announcement
            // starts another flight.
            let queued = clear(&mut lock(&routes), &key);
            landed.send_replace(outcome.ok());
            break queued;
        };
    }
}

/// Decides on the running flight of `key`, whose readers have all left.
fn fate<T: Clone>(routes: &Mutex<Routes<T>>, key: &SecretKey, gate: &SendGate) -> Fate<T> {
    let mut routes = lock(routes);
    match routes.get(key).map(|route| &route.running) {
        Some(running) if running.landed.receiver_count() > 0 => Fate::Wanted,
        Some(running) if running.abandonment == Abandonment::Drop && gate.give_up() => {
            Fate::Dropped(clear(&mut routes, key))
        }
        _ => Fate::Committed,
    }
}

fn clear<T: Clone>(routes: &mut Routes<T>, key: &SecretKey) -> Option<Queued<T>> {
    let queued = routes.get_mut(key).and_then(|route| {
        let queued = route.queued.take()?;
        route.running = queued.running.share();
        Some(queued)
    });
    if queued.is_none() {
        routes.remove(key);
    }
    queued
}

impl<T: Clone> Ticket<T> {
    /// Waits for the landing; `None` when the flight crashed.
    pub(crate) async fn landing(mut self) -> Option<T> {
        self.landing.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl<T> fmt::Debug for Flights<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flights({} under way)", lock(&self.0).len())
    }
}

fn lock<T>(routes: &Mutex<Routes<T>>) -> MutexGuard<'_, Routes<T>> {
    routes.lock().unwrap_or_else(PoisonError::into_inner)
}
