//! Removals, stores and floors that decide whether a record may still be held.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use kms_agent_core::Timestamp;

use crate::keyring::Id;

/// Difference by which two agents may read the server's clock.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// Removals, and stores, that are remembered; a fetch that outlived more of them counts as removed.
const REMEMBERED_REMOVALS: usize = 256;

/// Moment in the sequences of removals and of stores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(super) removals: u64,
    pub(super) stores: u64,
}

/// Places that other agents stored a record of, newest last.
#[derive(Debug, Default)]
pub(super) struct StoreLog {
    pub(super) count: u64,
    pub(super) recent: VecDeque<Id>,
}

#[derive(Debug, Default)]
pub(super) struct RemovalLog {
    pub(super) count: u64,
    pub(super) recent: VecDeque<Removed>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Removed {
    Everything,
    /// Only what was fetched up to this moment.
    Name(Id, Timestamp),
    Place(Id, Timestamp),
}

/// Moments, by the server's clock, before which no record of a place or name is accepted.
#[derive(Debug)]
pub(super) struct Floors {
    pub(super) at: HashMap<Id, Timestamp>,
    pub(super) order: VecDeque<Id>,
    pub(super) limit: usize,
}

impl RemovalLog {
    pub(super) fn note(&mut self, removed: Removed) {
        self.count += 1;
        if self.recent.len() == REMEMBERED_REMOVALS {
            self.recent.pop_front();
        }
        self.recent.push_back(removed);
    }

    pub(super) fn covers_since(
        &self,
        mark: Moment,
        (place, name): (Id, Id),
        fetched_at: Timestamp,
    ) -> bool {
        let later = usize::try_from(self.count.saturating_sub(mark.removals)).unwrap_or(usize::MAX);
        later > self.recent.len()
            || self
                .recent
                .iter()
                .rev()
                .take(later)
                .any(|removed| match removed {
                    Removed::Everything => true,
                    Removed::Name(removed, until) => *removed == name && fetched_at <= *until,
                    Removed::Place(removed, until) => *removed == place && fetched_at <= *until,
                })
    }
}

impl StoreLog {
    pub(super) fn note(&mut self, place: Id) {
        self.count += 1;
        if self.recent.len() == REMEMBERED_REMOVALS {
            self.recent.pop_front();
        }
        self.recent.push_back(place);
    }

    /// From now on every place may have been stored since any earlier mark.
    pub(super) fn lose_count(&mut self) {
        self.count += REMEMBERED_REMOVALS as u64 + 1;
    }

    /// Returns whether a record of `place` was stored since `mark`, or may have been.
    pub(super) fn has_since(&self, mark: Moment, place: Id) -> bool {
        let later = usize::try_from(self.count.saturating_sub(mark.stores)).unwrap_or(usize::MAX);
        later > self.recent.len() || self.recent.iter().rev().take(later).any(|it| *it == place)
    }
}

impl Floors {
    pub(super) fn raise(&mut self, id: Id, at: Timestamp) {
        if let Some(floor) = self.at.get_mut(&id) {
            *floor = at.max(*floor);
            return;
        }
        self.at.insert(id, at);
        self.order.push_back(id);
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.at.remove(&oldest);
        }
    }

    pub(super) fn is_below(&self, id: Id, at: Timestamp) -> bool {
        let at = at.plus(CLOCK_TOLERANCE);
        self.at.get(&id).is_some_and(|floor| at < *floor)
    }
}
