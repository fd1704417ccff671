use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kms_agent_core::Clock;
use tokio::sync::Notify;

/// Unused time that counts: the length of the largest burst.
const WINDOW: Duration = Duration::from_secs(1);

/// Priority among waiting calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    First,
    Later,
}

/// Turns that come one every `interval`, those of the last second being saved up.
#[derive(Debug)]
pub(super) struct Bucket {
    interval: Duration,
    state: Mutex<BucketState>,
}

#[derive(Debug, Default)]
struct BucketState {
    /// When all turns taken so far would have been due, had none been saved up.
    spent_until: Duration,
    first: VecDeque<Arc<Notify>>,
    later: VecDeque<Arc<Notify>>,
}

impl Bucket {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            state: Mutex::default(),
        }
    }

    /// Waits for a turn until `deadline`, by boot time. The error is how long it would have taken.
    pub(super) async fn take(
        &self,
        clock: &dyn Clock,
        rank: Rank,
        deadline: Duration,
    ) -> Result<(), Duration> {
        let seat = self.sit_down(rank);
        loop {
            let (turn_at, at_head) = {
                let mut state = self.lock();
                let ahead = state.ahead_of(&seat);
                let now = clock.boot();
                let turn_at = self.turn_at(&state);
                if ahead == 0 && now >= turn_at {
                    state.spent_until = state.spent_until.max(now) + self.interval;
                    return Ok(());
                }
                let turn_at = turn_at.max(now) + ahead * self.interval;
                if turn_at > deadline {
                    return Err(turn_at.saturating_sub(now));
                }
                (turn_at, ahead == 0)
            };
            // Only the one at the head watches the clock; the others are woken when they come to it.
            let until = if at_head { turn_at } else { deadline };
            tokio::select! {
                () = clock.sleep_until(until) => {}
                () = seat.called.notified() => {}
            }
        }
    }

    /// Takes a turn that no other call waits for. The error is how long it would have taken.
    pub(super) fn take_spare(&self, clock: &dyn Clock) -> Result<(), Duration> {
        let mut state = self.lock();
        let now = clock.boot();
        let turn_at = self.turn_at(&state);
        if now < turn_at || !state.first.is_empty() || !state.later.is_empty() {
            return Err(turn_at.saturating_sub(now).max(self.interval));
        }
        state.spent_until = state.spent_until.max(now) + self.interval;
        Ok(())
    }

    fn turn_at(&self, state: &BucketState) -> Duration {
        state
            .spent_until
            .saturating_sub(WINDOW.saturating_sub(self.interval))
    }

    fn sit_down(&self, rank: Rank) -> Seat<'_> {
        let called = Arc::new(Notify::new());
        let mut state = self.lock();
        match rank {
            Rank::First => state.first.push_back(Arc::clone(&called)),
            Rank::Later => state.later.push_back(Arc::clone(&called)),
        }
        Seat {
            bucket: self,
            called,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BucketState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BucketState {
    fn ahead_of(&self, seat: &Seat<'_>) -> u32 {
        let ahead = self
            .first
            .iter()
            .chain(&self.later)
            .position(|other| Arc::ptr_eq(other, &seat.called));
        ahead
            .and_then(|ahead| u32::try_from(ahead).ok())
            .unwrap_or(u32::MAX)
    }
}

/// A place among those who wait; given up when it is dropped, with or without a turn.
struct Seat<'a> {
    bucket: &'a Bucket,
    called: Arc<Notify>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut state = self.bucket.lock();
        state
            .first
            .retain(|other| !Arc::ptr_eq(other, &self.called));
        state
            .later
            .retain(|other| !Arc::ptr_eq(other, &self.called));
        if let Some(head) = state.first.front().or(state.later.front()) {
            head.notify_one();
        }
    }
}
