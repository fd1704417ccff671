//! Difference between a server's clock and this machine's.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kms_agent_core::{Clock, Timestamp};

use crate::gateway::wire::parse_http_date;
use crate::http::HttpResponse;

/// The largest difference at which the wall clock counts as right again. Servers refuse requests that are 15 minutes off.
const AGREEMENT: Duration = Duration::from_mins(1);

/// The largest difference between two clocks that are kept right: a third of what KMS tolerates.
const SLIGHT: Duration = Duration::from_mins(5);

/// Lead of the server's clock over the wall clock, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Skew(i64);

impl Skew {
    /// Date of the answer, if it has one.
    pub(crate) fn measure(response: &HttpResponse, wall: Timestamp) -> Option<Self> {
        server_date(response).map(|date| Self::between(date, wall))
    }

    /// Lead of a server whose time is `date` over `wall`.
    pub(crate) fn between(date: Timestamp, wall: Timestamp) -> Self {
        Self(date.as_millis().saturating_sub(wall.as_millis()))
    }

    /// Whether the two clocks agree, as clocks that are kept right do.
    pub(crate) fn is_slight(self) -> bool {
        Duration::from_millis(self.0.unsigned_abs()) <= SLIGHT
    }

    /// Lead of the server's clock in milliseconds; negative when it is behind.
    pub(crate) fn ahead_millis(self) -> i64 {
        self.0
    }

    fn is_agreement(self) -> bool {
        Duration::from_millis(self.0.unsigned_abs()) < AGREEMENT
    }
}

/// The clock of one service, once the service has refused the time of a request. Until then, and once the wall
/// clock agrees with the service again, requests carry the time of the wall clock.
///
/// The offset is kept against boot time, so that it stays right while the wall clock is set.
#[derive(Debug, Default)]
pub(crate) struct ServerClock(Mutex<Option<i64>>);

impl ServerClock {
    /// The time to sign a request with, as requests write it; `None` outside years 0 to 9999.
    pub(crate) fn date(&self, clock: &dyn Clock) -> Option<String> {
        let now = match *self.lock() {
            Some(offset) => Timestamp::from_millis(boot_millis(clock).saturating_add(offset)),
            None => clock.wall(),
        };
        now.to_rfc3339()
    }

    /// Goes by the `date` of an answer that refuses the time of a request. Returns whether the next request
    /// carries another time than the refused one.
    pub(crate) fn learn(&self, date: Option<Timestamp>, clock: &dyn Clock) -> bool {
        let learnt = date.map(|date| offset(date, clock));
        let before = std::mem::replace(&mut *self.lock(), learnt);
        // Without a date, what was learnt before is no use, and the wall clock may be.
        learnt.is_some() || before.is_some()
    }

    /// Follows the `date` of an answer to a request whose time was accepted. Returns whether this shows that the
    /// wall clock, which was off, is right again.
    pub(crate) fn follow(&self, date: Option<Timestamp>, clock: &dyn Clock) -> bool {
        let mut learnt = self.lock();
        let (Some(_), Some(date)) = (*learnt, date) else {
            return false;
        };
        let is_right = Skew::between(date, clock.wall()).is_agreement();
        *learnt = (!is_right).then(|| offset(date, clock));
        is_right
    }

    fn lock(&self) -> MutexGuard<'_, Option<i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The `Date` of an answer, where it has one.
pub(crate) fn server_date(response: &HttpResponse) -> Option<Timestamp> {
    response.header("date").and_then(parse_http_date)
}

fn boot_millis(clock: &dyn Clock) -> i64 {
    i64::try_from(clock.boot().as_millis()).unwrap_or(i64::MAX)
}

/// Lead of `date` over boot time, in milliseconds.
fn offset(date: Timestamp, clock: &dyn Clock) -> i64 {
    date.as_millis().saturating_sub(boot_millis(clock))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ManualClock, WALL, manual_clock};

    fn hours(count: u64) -> Duration {
        Duration::from_hours(count)
    }

    #[test]
    fn a_learnt_offset_is_kept_followed_and_given_up() {
        let (clock, server) = (manual_clock(), ServerClock::default());
        let wall = |clock: &ManualClock| clock.wall().to_rfc3339();
        assert_eq!(server.date(&*clock), wall(&clock));
        // Nothing was refused, so a date changes nothing.
        assert!(!server.follow(Some(WALL.plus(hours(2))), &*clock));
        assert_eq!(server.date(&*clock), wall(&clock));

        assert!(server.learn(Some(WALL.plus(hours(2))), &*clock));
        clock.advance(hours(1));
        let date = |time: Timestamp| time.to_rfc3339();
        assert_eq!(server.date(&*clock), date(WALL.plus(hours(3))));
        assert!(!server.follow(Some(WALL.plus(hours(4))), &*clock));
        assert_eq!(server.date(&*clock), date(WALL.plus(hours(4))));
        assert!(!server.follow(None, &*clock));

        // Another refusal that does not tell the time leaves the wall clock only.
        assert!(server.learn(None, &*clock));
        assert_eq!(server.date(&*clock), wall(&clock));
        assert!(!server.learn(None, &*clock));

        assert!(server.learn(Some(WALL), &*clock));
        let right = clock.wall().plus(Duration::from_secs(59));
        assert!(server.follow(Some(right), &*clock));
        assert_eq!(server.date(&*clock), wall(&clock));
    }

    #[test]
    fn a_jump_of_the_wall_clock_does_not_move_what_is_learnt() {
        let (clock, server) = (manual_clock(), ServerClock::default());
        assert!(server.learn(Some(WALL.plus(hours(2))), &*clock));
        clock.set_wall(clock.wall().plus(hours(2)));
        assert_eq!(server.date(&*clock), WALL.plus(hours(2)).to_rfc3339());
        assert!(server.follow(Some(WALL.plus(hours(2))), &*clock));
    }
}
