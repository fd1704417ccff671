//! Limit of concurrent calls to the source. A call that outlives its reader needs a bound of its own.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kms_agent_core::clock::Clock;
use kms_agent_core::source::Purpose;
use tokio::sync::oneshot;

/// The most calls under way at once.
pub(crate) const MAX_CALLS: usize = 256;

/// The most of them for readers that refuse a copy, so that one caller cannot starve the others.
const MAX_REFRESH_NOW: usize = MAX_CALLS / 2;

/// The most calls of one purpose that wait for their turn.
const MAX_WAITING: usize = 1024;

/// Turns for calls: refreshes of held entries first, the others in the order of their arrival.
#[derive(Debug, Default)]
pub(crate) struct CallLimit(Mutex<LimitState>);

#[derive(Debug, Default)]
struct LimitState {
    running: usize,
    running_refresh_now: usize,
    last_number: u64,
    refresh: WaitQueue,
    read: WaitQueue,
    refresh_now: WaitQueue,
}

/// Calls that wait, by the number of their arrival.
type WaitQueue = BTreeMap<u64, oneshot::Sender<()>>;

/// No turn came in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitReached;

/// The right to one call, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    limit: &'a CallLimit,
    purpose: Purpose,
}

impl CallLimit {
    /// Waits for a turn until `deadline`, by boot time.
    pub(crate) async fn acquire(
        &self,
        purpose: Purpose,
        clock: &dyn Clock,
        deadline: Duration,
    ) -> Result<Permit<'_>, LimitReached> {
        let mut place = {
            let mut state = self.lock();
            if state.queue(purpose).is_empty() && state.take(purpose) {
                return Ok(Permit {
                    limit: self,
                    purpose,
                });
            }
            // A check of a watched secret never waits.
            if purpose == Purpose::Watch || state.queue(purpose).len() >= MAX_WAITING {
                return Err(LimitReached);
            }
            let (called, call) = oneshot::channel();
            state.last_number += 1;
            let number = state.last_number;
            state.queue(purpose).insert(number, called);
            QueuePlace {
                limit: self,
                purpose,
                number,
                call,
            }
        };
        tokio::select! {
            biased;
            called = &mut place.call => called.map_err(|_| LimitReached)?,
            () = clock.sleep_until(deadline) => return Err(LimitReached),
        }
        Ok(Permit {
            limit: self,
            purpose,
        })
    }

    fn lock(&self) -> MutexGuard<'_, LimitState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LimitState {
    fn queue(&mut self, purpose: Purpose) -> &mut WaitQueue {
        match purpose {
            Purpose::Refresh => &mut self.refresh,
            Purpose::Read | Purpose::Watch => &mut self.read,
            Purpose::RefreshNow => &mut self.refresh_now,
        }
    }

    /// Counts one call more, if there may be one.
    fn take(&mut self, purpose: Purpose) -> bool {
        let is_refresh_now = purpose == Purpose::RefreshNow;
        if self.running == MAX_CALLS
            || (is_refresh_now && self.running_refresh_now == MAX_REFRESH_NOW)
        {
            return false;
        }
        self.running += 1;
        self.running_refresh_now += usize::from(is_refresh_now);
        true
    }

    /// Counts one call less, and wakes the callers that wait.
    fn give_back(&mut self, purpose: Purpose) {
        self.running = self.running.saturating_sub(1);
        if purpose == Purpose::RefreshNow {
            self.running_refresh_now = self.running_refresh_now.saturating_sub(1);
        }
        while let Some(next) = self.next() {
            let Some((_, called)) = self.queue(next).pop_first() else {
                return;
            };
            if called.send(()).is_ok() {
                self.take(next);
                return;
            }
        }
    }

    /// The purpose whose turn it is.
    fn next(&self) -> Option<Purpose> {
        if !self.refresh.is_empty() {
            return Some(Purpose::Refresh);
        }
        let head = |queue: &WaitQueue| queue.first_key_value().map(|(number, _)| *number);
        let read = head(&self.read);
        let refresh_now =
            head(&self.refresh_now).filter(|_| self.running_refresh_now < MAX_REFRESH_NOW);
        match (read, refresh_now) {
            (None, None) => None,
            (Some(read), Some(refresh_now)) if read > refresh_now => Some(Purpose::RefreshNow),
            (None, Some(_)) => Some(Purpose::RefreshNow),
            (Some(_), _) => Some(Purpose::Read),
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.limit.lock().give_back(self.purpose);
    }
}

/// A place in the queue; given up when it is dropped.
struct QueuePlace<'a> {
    limit: &'a CallLimit,
    purpose: Purpose,
    number: u64,
    call: oneshot::Receiver<()>,
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        let mut state = self.limit.lock();
        state.queue(self.purpose).remove(&self.number);
        // Called and gone before it was noticed. After a call that was noticed there is nothing to receive.
        if self.call.try_recv().is_ok() {
            state.give_back(self.purpose);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::SystemClock;

    const NEVER: Duration = Duration::MAX;

    async fn take(limit: &CallLimit, purpose: Purpose, count: usize) -> Vec<Permit<'_>> {
        let mut permits = Vec::new();
        for _ in 0..count {
            permits.push(limit.acquire(purpose, &SystemClock, NEVER).await.unwrap());
        }
        permits
    }

    /// A caller that notes in `order` when its turn came.
    fn wait(
        limit: &Arc<CallLimit>,
        purpose: Purpose,
        order: &Arc<Mutex<Vec<Purpose>>>,
    ) -> tokio::task::JoinHandle<()> {
        let (limit, order) = (Arc::clone(limit), Arc::clone(order));
        tokio::spawn(async move {
            let permit = limit.acquire(purpose, &SystemClock, NEVER).await.unwrap();
            order.lock().unwrap().push(permit.purpose);
        })
    }

    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn there_are_never_more_calls_than_the_limit() {
        let limit = CallLimit::default();
        let permits = take(&limit, Purpose::Read, MAX_CALLS).await;
        for purpose in [Purpose::Refresh, Purpose::Read, Purpose::RefreshNow] {
            let none = limit.acquire(purpose, &SystemClock, Duration::ZERO).await;
            assert_eq!(none.err(), Some(LimitReached));
        }
        drop(permits);
        assert_eq!(
            take(&limit, Purpose::Read, MAX_CALLS).await.len(),
            MAX_CALLS
        );
    }

    #[tokio::test]
    async fn half_of_the_calls_are_out_of_reach_of_readers_that_refuse_a_copy() {
        let limit = CallLimit::default();
        let held = take(&limit, Purpose::RefreshNow, MAX_REFRESH_NOW).await;
        let none = limit
            .acquire(Purpose::RefreshNow, &SystemClock, Duration::ZERO)
            .await;
        assert_eq!(none.err(), Some(LimitReached));
        assert_eq!(take(&limit, Purpose::Read, 5).await.len(), 5);
        drop(held);
    }

    #[tokio::test]
    async fn refreshes_of_held_entries_go_first_and_the_others_in_their_order() {
        let limit = Arc::new(CallLimit::default());
        let mut held = take(&limit, Purpose::Refresh, MAX_CALLS).await;
        let order = Arc::default();
        let mut waiting = Vec::new();
        for purpose in [Purpose::RefreshNow, Purpose::Read, Purpose::Refresh] {
            waiting.push(wait(&limit, purpose, &order));
            settle().await;
        }
        assert!(order.lock().unwrap().is_empty());
        // Each passes this one permit on to the next.
        held.pop();
        for waiter in waiting {
            waiter.await.unwrap();
        }
        assert_eq!(
            *order.lock().unwrap(),
            [Purpose::Refresh, Purpose::RefreshNow, Purpose::Read]
        );
        drop(held);
        let state = limit.lock();
        assert_eq!((state.running, state.running_refresh_now), (0, 0));
    }

    #[tokio::test]
    async fn a_caller_that_leaves_the_queue_takes_nothing_with_it() {
        let limit = Arc::new(CallLimit::default());
        let held = take(&limit, Purpose::Read, MAX_CALLS).await;
        let order = Arc::default();
        let [first, second] = [(); 2].map(|()| wait(&limit, Purpose::Read, &order));
        settle().await;
        first.abort();
        settle().await;
        assert_eq!(limit.lock().read.len(), 1);
        drop(held);
        second.await.unwrap();
        assert_eq!(limit.lock().running, 0);
    }
}
