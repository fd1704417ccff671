//! Time as the store knows it, and the part of it that is kept for the next process.

use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::{Clock, Resumed, Scope, Timestamp};

/// Agent's timeline as known to the store, and the trust in the wall clock.
#[derive(Debug, Default)]
pub(crate) struct Time {
    /// Latest moment known, from this process or the previous one.
    latest: Timestamp,
    /// Boot time zero on the agent's timeline, once a caller has given the time.
    origin: Option<Timestamp>,
    /// State of the previous process, if there was one.
    before: Option<Before>,
    /// Whether the wall clock is known to be right.
    clock_is_confirmed: bool,
}

/// State of the previous process, and the moment from which this one continues it.
#[derive(Debug)]
struct Before {
    resumed: Resumed,
    /// Boot time.
    since: Option<Duration>,
}

impl Time {
    /// Takes the time from a caller.
    pub(crate) fn learn(&mut self, now: Timestamp, clock: &dyn Clock) {
        self.origin.get_or_insert_with(|| now.minus(clock.boot()));
    }

    /// Notes the moment of a fetch.
    pub(crate) fn heard_of(&mut self, at: Timestamp) {
        self.latest = self.latest.max(at);
    }

    /// Takes the state of the previous process. `is_first`: this process continues from it.
    pub(crate) fn found(&mut self, resumed: Resumed, is_first: bool) {
        self.heard_of(resumed.written_at);
        if is_first {
            self.before = Some(Before {
                resumed,
                since: None,
            });
        }
    }

    /// Notes the boot time at which this process continues the previous one.
    pub(crate) fn go_on_at(&mut self, boot: Duration) {
        if let Some(before) = &mut self.before {
            before.since.get_or_insert(boot);
        }
    }

    /// Forgets the previous process after a purge.
    pub(crate) fn forget_before(&mut self) {
        self.before = None;
    }

    /// Notes that the wall clock is right.
    pub(crate) fn confirm_clock(&mut self) {
        self.clock_is_confirmed = true;
    }

    /// Returns a lower bound of the time that does not depend on the wall clock. `None`: the time is certain, because no
    /// previous process is known or the clock is confirmed.
    fn at_least(&self, clock: &dyn Clock) -> Option<(&Resumed, Timestamp)> {
        let before = self.before.as_ref().filter(|_| !self.clock_is_confirmed)?;
        let boot = clock.boot();
        let lived = boot.saturating_sub(before.since.unwrap_or(boot));
        Some((&before.resumed, before.resumed.written_at.plus(lived)))
    }

    /// Returns `now`, or the lower bound of it while the wall clock may be wrong.
    pub(crate) fn certain(&self, now: Timestamp, clock: &dyn Clock) -> Timestamp {
        self.at_least(clock)
            .map_or(now, |(_, at_least)| at_least.min(now))
    }

    /// Returns the state for the next process. While the wall clock may be wrong, its last confirmed reading is kept.
    pub(crate) fn resumed(&self, scope: Arc<Scope>, clock: &dyn Clock) -> Resumed {
        if let Some((before, at_least)) = self.at_least(clock) {
            return Resumed {
                scope,
                written_at: at_least,
                ..before.clone()
            };
        }
        let now = self.origin.map(|origin| origin.plus(clock.boot()));
        let now = now.unwrap_or_default().max(self.latest);
        Resumed {
            scope,
            written_at: now,
            wall_at: clock.wall(),
            counted_from: now,
        }
    }
}
