//! The server's clock, by which the fleet measures ages.

use kms_agent_core::{Lifetime, Timestamp};

/// The server's clock against boot time or this agent's timeline, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerTime {
    /// The server's clock is ahead by at least this much.
    pub(crate) least: i64,
    /// The server's clock is ahead by at most this much.
    pub(crate) most: i64,
    /// Records stamped earlier than this are of unknown age: the server's clock was set.
    pub(crate) valid_from: i64,
}

impl ServerTime {
    /// Returns `at` by the server's clock, never later than it was.
    pub(crate) fn on_server(self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(at.as_millis().saturating_add(self.least))
    }

    /// Returns `at` by the server's clock, never earlier than it was.
    pub(crate) fn on_server_at_latest(self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(at.as_millis().saturating_add(self.most))
    }

    /// Returns the server's `at` on this agent's timeline, never later than it was.
    pub(crate) fn here(self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(at.as_millis().saturating_sub(self.most))
    }

    /// Returns the server's `at` on this agent's timeline, never earlier than it was.
    pub(crate) fn here_at_latest(self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(at.as_millis().saturating_sub(self.least))
    }

    pub(super) fn lifetime_on_server(self, lifetime: &Lifetime) -> Lifetime {
        Lifetime {
            fetched_at: self.on_server(lifetime.fetched_at),
            rotates_at: lifetime.rotates_at.map(|at| self.on_server(at)),
            usable_until: self.on_server(lifetime.usable_until),
        }
    }

    pub(super) fn lifetime_here(self, lifetime: &Lifetime) -> Lifetime {
        let fetched_at = self.here(lifetime.fetched_at);
        let rotates_at = lifetime.rotates_at.map(|at| self.here(at));
        Lifetime {
            fetched_at,
            rotates_at: if lifetime.fetched_at.as_millis() < self.valid_from {
                Some(fetched_at)
            } else {
                rotates_at
            },
            usable_until: self.here(lifetime.usable_until),
        }
    }
}
