//! One upstream call per key, however many readers wait for it.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::secret::SecretKey;

type Fly<T> = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = T> + Send>> + Send>;

/// Which flight a reader may board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boarding {
    /// Any that is under way.
    Any,
    /// Only one that begins after this moment: what a running one brings may be older than the reader's
    /// wish.
    Next,
}

/// The flights under way: per key at most one running and one queued behind it.
///
/// A flight is a task of its own, so a reader who hangs up cancels nothing.
pub(crate) struct Flights<T>(Arc<Mutex<HashMap<SecretKey, Route<T>>>>);

struct Route<T> {
    running: watch::Receiver<Option<T>>,
    queued: Option<Queued<T>>,
}

struct Queued<T> {
    fly: Fly<T>,
    landed: watch::Sender<Option<T>>,
}

/// A seat on a flight.
pub(crate) struct Ticket<T> {
    landing: watch::Receiver<Option<T>>,
    /// Whether somebody else's flight was joined.
    pub(crate) joined: bool,
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
        fly: impl FnOnce() -> F + Send + 'static,
    ) -> Ticket<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut routes = lock(&self.0);
        if let Some(route) = routes.get_mut(key) {
            let (landing, joined) = match (boarding, &route.queued) {
                (Boarding::Any, _) => (route.running.clone(), true),
                (Boarding::Next, Some(queued)) => (queued.landed.subscribe(), true),
                (Boarding::Next, None) => {
                    let (landed, landing) = watch::channel(None);
                    route.queued = Some(Queued {
                        fly: boxed(fly),
                        landed,
                    });
                    (landing, false)
                }
            };
            return Ticket { landing, joined };
        }
        let (landed, running) = watch::channel(None);
        let ticket = Ticket {
            landing: running.clone(),
            joined: false,
        };
        routes.insert(
            key.clone(),
            Route {
                running,
                queued: None,
            },
        );
        drop(routes);
        tokio::spawn(take_off(
            Arc::clone(&self.0),
            key.clone(),
            Queued {
                fly: boxed(fly),
                landed,
            },
        ));
        ticket
    }
}

/// Flies `first` and whatever has queued behind it meanwhile.
async fn take_off<T: Clone + Send + Sync + 'static>(
    routes: Arc<Mutex<HashMap<SecretKey, Route<T>>>>,
    key: SecretKey,
    first: Queued<T>,
) {
    let mut next = Some(first);
    while let Some(Queued { fly, landed }) = next {
        // A task of its own, so that a panic in it strands nobody: its readers see the sender go.
        let outcome = tokio::spawn(fly()).await.ok();
        // The route is cleared before the landing is announced: whoever comes after the announcement
        // starts anew.
        next = clear(&mut lock(&routes), &key);
        landed.send_replace(outcome);
    }
}

fn clear<T>(routes: &mut HashMap<SecretKey, Route<T>>, key: &SecretKey) -> Option<Queued<T>> {
    let queued = routes.get_mut(key).and_then(|route| {
        let queued = route.queued.take()?;
        route.running = queued.landed.subscribe();
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

fn boxed<T, F>(fly: impl FnOnce() -> F + Send + 'static) -> Fly<T>
where
    F: Future<Output = T> + Send + 'static,
{
    Box::new(move || Box::pin(fly()))
}

fn lock<T>(
    routes: &Mutex<HashMap<SecretKey, Route<T>>>,
) -> MutexGuard<'_, HashMap<SecretKey, Route<T>>> {
    routes.lock().unwrap_or_else(PoisonError::into_inner)
}
