//! A bounded queue of names, and the threads that work it off.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

/// The most threads that look up names at a time.
pub(super) const MAX_THREADS: usize = 4;

/// The most names that wait for a thread. The agent knows fewer than ten.
pub(super) const MAX_QUEUED: usize = 64;

/// Time after which a thread without work ends.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// `getaddrinfo` and the modules of `nsswitch.conf` need far less.
const STACK_BYTES: usize = 512 * 1024;

type LookupOutcome = Result<Arc<[IpAddr]>, LookupFailure>;
type Ask = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// Look-ups that wait or run: each name at most once, however many callers wait for it.
pub(super) struct LookupQueue(Arc<SharedQueue>);

struct SharedQueue {
    /// Asks for the addresses of a name, and blocks meanwhile.
    ask: Box<Ask>,
    state: Mutex<QueueState>,
    /// Wakes an idle thread.
    work: Condvar,
}

#[derive(Default)]
struct QueueState {
    /// Names that no thread has taken yet.
    queued: VecDeque<Arc<str>>,
    /// The callers that wait for each name, queued or running.
    waiting: HashMap<Arc<str>, Vec<oneshot::Sender<LookupOutcome>>>,
    threads: usize,
    idle: usize,
}

/// An I/O error that many callers get.
#[derive(Clone)]
struct LookupFailure {
    kind: io::ErrorKind,
    text: Arc<str>,
}

impl LookupFailure {
    fn of(error: &io::Error) -> Self {
        Self {
            kind: error.kind(),
            text: error.to_string().into(),
        }
    }
}

impl From<LookupFailure> for io::Error {
    fn from(failure: LookupFailure) -> Self {
        Self::new(failure.kind, &*failure.text)
    }
}

impl LookupQueue {
    /// A queue without threads: they start when there is work.
    pub(super) fn new(
        ask: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(SharedQueue {
            ask: Box::new(ask),
            state: Mutex::default(),
            work: Condvar::new(),
        }))
    }

    /// The addresses of `name`. Dropping the future withdraws the question; a name without waiting callers is
    /// not looked up.
    pub(super) async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let outcome = self.join(name)?;
        let crashed = |_| io::Error::other("failed to lookup address information: it crashed");
        Ok(outcome.await.map_err(crashed)??.to_vec())
    }

    /// Waits with the others for `name`, or puts it into the queue.
    fn join(&self, name: &str) -> io::Result<oneshot::Receiver<LookupOutcome>> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.0.lock();
        if let Some(waiting) = state.waiting.get_mut(name) {
            waiting.retain(|waiter| !waiter.is_closed());
            waiting.push(sender);
            return Ok(receiver);
        }
        state.forget_the_abandoned();
        if state.queued.len() >= MAX_QUEUED {
            return Err(io::Error::other(
                "failed to lookup address information: too many names wait for the DNS",
            ));
        }
        if state.idle <= state.queued.len() && state.threads < MAX_THREADS {
            match self.0.spawn() {
                Ok(()) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    let text =
                        format!("failed to lookup address information: no thread for it: {error}");
                    return Err(io::Error::new(error.kind(), text));
                }
                // One of the other threads will come to it.
                Err(_) => {}
            }
        }
        let name: Arc<str> = name.into();
        state.waiting.insert(Arc::clone(&name), vec![sender]);
        state.queued.push_back(name);
        drop(state);
        self.0.work.notify_one();
        Ok(receiver)
    }

    #[cfg(test)]
    pub(super) fn threads(&self) -> usize {
        self.0.lock().threads
    }
}

impl fmt::Debug for LookupQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookupQueue").finish_non_exhaustive()
    }
}

impl QueueState {
    fn is_abandoned(&self, name: &str) -> bool {
        let waiting = self.waiting.get(name);
        waiting.is_none_or(|waiting| waiting.iter().all(oneshot::Sender::is_closed))
    }

    /// Drops queued names without waiting callers.
    fn forget_the_abandoned(&mut self) {
        let queued = std::mem::take(&mut self.queued);
        for name in queued {
            if self.is_abandoned(&name) {
                self.waiting.remove(&name);
            } else {
                self.queued.push_back(name);
            }
        }
    }
}

impl SharedQueue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread, which the caller counts under the lock that it holds.
    fn spawn(self: &Arc<Self>) -> io::Result<()> {
        let shared = Arc::clone(self);
        thread::Builder::new()
            .name("kms-names".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || shared.run())
            .map(drop)
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            state.forget_the_abandoned();
            let Some(name) = state.queued.pop_front() else {
                state.idle += 1;
                let waited = self.work.wait_timeout(state, IDLE_TIMEOUT);
                let (woken, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
                state = woken;
                state.idle -= 1;
                if timed_out.timed_out() && state.queued.is_empty() {
                    break;
                }
                continue;
            };
            drop(state);
            let asked = catch_unwind(AssertUnwindSafe(|| (self.ask)(&name)));
            let outcome: LookupOutcome = match asked {
                Ok(Ok(found)) => Ok(found.into()),
                Ok(Err(error)) => Err(LookupFailure::of(&error)),
                Err(_) => Err(LookupFailure::of(&io::Error::other(
                    "failed to lookup address information: it crashed",
                ))),
            };
            state = self.lock();
            for waiter in state.waiting.remove(&name).unwrap_or_default() {
                // A caller that has left needs no answer.
                let _ = waiter.send(outcome.clone());
            }
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
mod tests;
