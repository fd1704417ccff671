//! What the store knows of time, and what of it the next process is to know.

use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::{Clock, Resumed, Scope, Timestamp};

/// The agent's timeline as far as the store has heard of it, and how far the wall clock is to be trusted.
#[derive(Debug, Default)]
pub(crate) struct Time {
    /// The latest moment that was heard of, in this process or the one before.
    latest: Timestamp,
    /// Boot time zero on the agent's timeline, once somebody has said what time it is.
    origin: Option<Timestamp>,
    /// What the process before left, if there was one.
    before: Option<Before>,
    /// The wall clock is known to be right.
    clock_is_confirmed: bool,
}

/// What the process before left, and since when this one goes on from there.
#[derive(Debug)]
struct Before {
    resumed: Resumed,
    /// In boot time.
    since: Option<Duration>,
}

impl Time {
    /// Learns what time it is.
    pub(crate) fn learn(&mut self, now: Timestamp, clock: &dyn Clock) {
        self.origin.get_or_insert_with(|| now.minus(clock.boot()));
    }

    /// Notes the moment of a fetch.
    pub(crate) fn heard_of(&mut self, at: Timestamp) {
        self.latest = self.latest.max(at);
    }

    /// Takes what the process before left. `is_first`: this process goes on from there.
    pub(crate) fn found(&mut self, resumed: Resumed, is_first: bool) {
        self.heard_of(resumed.written_at);
        if is_first {
            self.before = Some(Before {
                resumed,
                since: None,
            });
        }
    }

    /// Notes the boot time from which on this process goes on from the one before.
    pub(crate) fn go_on_at(&mut self, boot: Duration) {
        if let Some(before) = &mut self.before {
            before.since.get_or_insert(boot);
        }
    }

    /// Forgets the process before: nothing of it is left.
    pub(crate) fn forget_before(&mut self) {
        self.before = None;
    }

    /// Notes that the wall clock is right.
    pub(crate) fn confirm_clock(&mut self) {
        self.clock_is_confirmed = true;
    }

    /// How late it is at least, whatever the wall clock said when this process began. `None`: no earlier process
    /// is known, or the clock is right, so there is no doubt.
    fn at_least(&self, clock: &dyn Clock) -> Option<(&Resumed, Timestamp)> {
        let before = self.before.as_ref().filter(|_| !self.clock_is_confirmed)?;
        let boot = clock.boot();
        let lived = boot.saturating_sub(before.since.unwrap_or(boot));
        Some((&before.resumed, before.resumed.written_at.plus(lived)))
    }

    /// `now`, or what of it does not depend on the wall clock while that may be wrong.
    pub(crate) fn certain(&self, now: Timestamp, clock: &dyn Clock) -> Timestamp {
        self.at_least(clock)
            .map_or(now, |(_, at_least)| at_least.min(now))
    }

    /// What to leave word of for the next process. A wall clock that may be wrong leaves what the process before
    /// knew of it as it is.
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
