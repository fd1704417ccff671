//! Time as a port.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::backend::Resumed;
use crate::lifetime::Timestamp;

/// The only teller of time.
///
/// # Example
///
/// A clock for tests that stands still:
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use kms_agent_core::{Clock, Timeline, Timestamp};
///
/// #[derive(Debug)]
/// struct FrozenClock;
///
/// #[async_trait::async_trait]
/// impl Clock for FrozenClock {
///     fn boot(&self) -> Duration {
///         Duration::from_secs(7)
///     }
///
///     fn wall(&self) -> Timestamp {
///         Timestamp::from_millis(1_700_000_000_000)
///     }
///
///     async fn sleep_until(&self, deadline: Duration) {
///         if deadline > self.boot() {
///             std::future::pending().await
///         }
///     }
/// }
///
/// let timeline = Timeline::new(Arc::new(FrozenClock));
/// assert_eq!(timeline.now(), FrozenClock.wall());
/// ```
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// Time since an arbitrary start that never goes back and counts while the machine is suspended.
    fn boot(&self) -> Duration;

    /// The wall clock, which an operator or NTP may set at any moment.
    fn wall(&self) -> Timestamp;

    /// Returns once [`boot`](Self::boot) has reached `deadline`.
    async fn sleep_until(&self, deadline: Duration);
}

/// The agent's own time: the wall clock at the first start, carried on by boot time, and from one process to the
/// next by how far the wall clock has gone on. Monotonic; unaffected by changes to the wall clock.
#[derive(Clone, Debug)]
pub struct Timeline {
    clock: Arc<dyn Clock>,
    /// Wall time at boot time zero.
    origin: Timestamp,
    /// Beginning of the timeline, if the wall clock was then behind that of the previous process.
    behind_at: Option<Timestamp>,
}

impl Timeline {
    /// Begins a timeline at the present moment of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let origin = clock.wall().minus(clock.boot());
        Self {
            clock,
            origin,
            behind_at: None,
        }
    }

    /// Carries on from where an earlier process's wall clock was known to be right, by as much as the wall clock
    /// has gone on since. Nothing becomes younger than it was for that process. If the wall clock is behind,
    /// [`doubts`](Self::doubts) tells.
    pub fn resume(clock: Arc<dyn Clock>, last: &Resumed) -> Self {
        let wall = clock.wall();
        let is_behind = wall < last.wall_at;
        let at_least = last.written_at.plus(Duration::from_millis(1));
        let start = if is_behind {
            at_least
        } else {
            let counted = last.counted_from.plus(wall.since(last.wall_at));
            counted.max(last.written_at)
        };
        Self {
            origin: start.minus(clock.boot()),
            behind_at: is_behind.then_some(start),
            clock,
        }
    }

    /// Whether something of `at` is older by an unknown time than this timeline says: it is of an earlier
    /// process, and how long ago that ended the wall clock could not tell.
    pub fn doubts(&self, at: Timestamp) -> bool {
        self.behind_at.is_some_and(|start| at < start)
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.at(self.clock.boot())
    }

    /// The moment at boot time `boot`.
    pub fn at(&self, boot: Duration) -> Timestamp {
        self.origin.plus(boot)
    }

    /// Moment on this timeline of a wall-clock date of another machine.
    pub fn place(&self, wall: Timestamp) -> Timestamp {
        let drift = self
            .now()
            .as_millis()
            .saturating_sub(self.clock.wall().as_millis());
        Timestamp::from_millis(wall.as_millis().saturating_add(drift))
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        self.clock.sleep_until(self.clock.boot() + duration).await;
    }

    /// Date that the wall clock, as it is set now, would have shown at `at`.
    pub fn wall(&self, at: Timestamp) -> Timestamp {
        self.clock.wall().minus(self.now().since(at))
    }

    /// The clock underneath.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}
