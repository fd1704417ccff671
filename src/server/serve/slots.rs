//! Limit on connections, and the choice of the connection that gives way to a newcomer.
//!
//! Each class of connections has a share of its own. While a class is full, a newcomer takes the slot of the oldest
//! connection that is owed no answer and has not shown a valid token. If there is none, it takes the slot of the
//! oldest connection whose client has closed its sending side, because that client has probably left. A connection
//! that has shown the token is otherwise never closed for a newcomer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::sync::WaitForCancellationFuture;

/// Number of connections past the limit that are still read.
const OVERFLOW_SHARE: usize = 4;

/// Number of connections that may be closing to make room before the accept loop waits for them.
const MAX_LEAVING: usize = 64;

/// Class of a connection. Classes do not compete for slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Served as the guard decides.
    Served,
    /// Over the limit: one answer of a health path, or one 429.
    Overflow,
}

/// All slots of the listeners.
#[derive(Debug)]
pub(super) struct ConnectionSlots(Arc<Mutex<SlotState>>);

#[derive(Debug)]
struct SlotState {
    /// Number of the next connection; a lower number is an older connection.
    next: u64,
    served: ClassSlots,
    overflow: ClassSlots,
}

/// Slots of one class.
#[derive(Debug)]
struct ClassSlots {
    share: usize,
    /// Number of connections, without those in `leaving`.
    taken: usize,
    /// Connections without a token that are owed no answer, by age.
    silent: BTreeMap<u64, CancellationToken>,
    /// Connections that wait for an answer and whose client has closed its sending side, by age.
    half_closed: BTreeMap<u64, CancellationToken>,
    /// Connections that were told to give way and are not closed yet.
    leaving: BTreeSet<u64>,
}

/// Slot of one connection; dropping it frees the slot.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    number: u64,
    class: Class,
    /// Cancelled when the connection must give way, or when the server stops.
    leave: CancellationToken,
    /// A valid token has been shown on this connection.
    has_token: AtomicBool,
    state: Arc<Mutex<SlotState>>,
}

impl ConnectionSlots {
    /// Slots for `limit` connections, and a few for those past the limit.
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(SlotState {
            next: 0,
            served: ClassSlots::new(limit),
            overflow: ClassSlots::new(OVERFLOW_SHARE),
        })))
    }

    /// Takes a slot for a new connection, which must leave when `stop` is cancelled too. `None` when every slot is
    /// in use by a connection that does not give way.
    pub(super) fn take(&self, stop: &CancellationToken) -> Option<ConnectionSlot> {
        let mut state = lock(&self.0);
        let class = [Class::Served, Class::Overflow]
            .into_iter()
            .find(|class| state.class(*class).make_room())?;
        let number = state.next;
        state.next += 1;
        let leave = stop.child_token();
        let slots = state.class(class);
        slots.taken += 1;
        slots.silent.insert(number, leave.clone());
        Some(ConnectionSlot {
            number,
            class,
            leave,
            has_token: AtomicBool::new(false),
            state: Arc::clone(&self.0),
        })
    }

    /// Whether so many connections are closing that no more should be accepted for a moment. Each of them closes as
    /// soon as its task runs.
    pub(super) fn is_crowded(&self) -> bool {
        let state = lock(&self.0);
        state.served.leaving.len() + state.overflow.leaving.len() >= MAX_LEAVING
    }
}

impl SlotState {
    fn class(&mut self, class: Class) -> &mut ClassSlots {
        match class {
            Class::Served => &mut self.served,
            Class::Overflow => &mut self.overflow,
        }
    }
}

impl ClassSlots {
    fn new(share: usize) -> Self {
        Self {
            share,
            taken: 0,
            silent: BTreeMap::new(),
            half_closed: BTreeMap::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// Whether a slot is free, or becomes free because a connection gives way.
    fn make_room(&mut self) -> bool {
        while self.taken >= self.share {
            let next = self.silent.pop_first();
            let Some((number, leave)) = next.or_else(|| self.half_closed.pop_first()) else {
                return false;
            };
            self.taken -= 1;
            self.leaving.insert(number);
            leave.cancel();
        }
        true
    }
}

impl ConnectionSlot {
    /// Completes when the connection must give way or the server stops.
    pub(super) fn left(&self) -> WaitForCancellationFuture<'_> {
        self.leave.cancelled()
    }

    /// Whether the connection was told to give way, and nothing has come since then that is owed an answer.
    pub(super) fn is_evicted(&self) -> bool {
        lock(&self.state)
            .class(self.class)
            .leaving
            .contains(&self.number)
    }

    /// Whether the connection is over the limit.
    pub(super) fn is_overflow(&self) -> bool {
        self.class == Class::Overflow
    }

    /// Notes that an answer is owed: a request is complete, also one that came together with the order to give way.
    pub(super) fn begin_answer(&self) {
        // A hit on a kept connection ends here.
        if self.has_token.load(Ordering::Relaxed) {
            return;
        }
        let mut state = lock(&self.state);
        let slots = state.class(self.class);
        slots.silent.remove(&self.number);
        if slots.leaving.remove(&self.number) {
            // The class has one connection too many now; the next newcomer closes two.
            slots.taken += 1;
        }
    }

    /// Notes that the request came with a valid token.
    pub(super) fn note_token(&self) {
        if !self.has_token.load(Ordering::Relaxed) {
            self.has_token.store(true, Ordering::Relaxed);
        }
    }

    /// Notes that the client has closed its sending side while it is owed an answer.
    pub(super) fn note_half_closed(&self) {
        // A connection that is already told to leave ends after its answer.
        if !self.leave.is_cancelled() {
            lock(&self.state)
                .class(self.class)
                .half_closed
                .insert(self.number, self.leave.clone());
        }
    }

    /// Notes that the last answer is written, so that only the close is left to do.
    pub(super) fn end_answers(&self) {
        let mut state = lock(&self.state);
        let slots = state.class(self.class);
        slots.half_closed.remove(&self.number);
        if !slots.leaving.contains(&self.number) {
            slots.silent.insert(self.number, self.leave.clone());
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        let slots = state.class(self.class);
        slots.silent.remove(&self.number);
        slots.half_closed.remove(&self.number);
        if !slots.leaving.remove(&self.number) {
            slots.taken -= 1;
        }
    }
}

fn lock(state: &Mutex<SlotState>) -> MutexGuard<'_, SlotState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
