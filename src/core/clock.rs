//! Time as a port.

mod system;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use self::system::SystemClock;
use crate::lifetime::Timestamp;

/// The only teller of time.
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// Time since an arbitrary start that never goes back and counts while the machine is suspended.
    fn boot(&self) -> Duration;

    /// The wall clock, which an operator or NTP may set at any moment.
    fn wall(&self) -> Timestamp;

    /// Returns once [`boot`](Self::boot) has reached `deadline`.
    async fn sleep_until(&self, deadline: Duration);
}

/// The agent's own time: the wall clock at start, carried on by boot time. It never goes back or jumps
/// while the process lives, and is comparable to what an earlier process wrote down.
#[derive(Clone, Debug)]
pub struct Timeline {
    clock: Arc<dyn Clock>,
    /// What the wall said at boot time zero.
    origin: Timestamp,
    /// Where it began, if the wall clock was then behind what an earlier process wrote down.
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

    /// Carries on after `written_at`, the last moment that an earlier process wrote down. If the wall clock
    /// says less, this timeline begins there all the same, so that nothing becomes younger than it was.
    pub fn resume(clock: Arc<dyn Clock>, written_at: Timestamp) -> Self {
        let mut timeline = Self::new(clock);
        let now = timeline.now();
        if now < written_at {
            let start = written_at.plus(Duration::from_millis(1));
            timeline.origin = start.minus(timeline.clock.boot());
            timeline.behind_at = Some(start);
        }
        timeline
    }

    /// Whether something of `at` is older by an unknown time than this timeline says: it is of an earlier
    /// process, and how long ago that ended the wall clock could not tell.
    pub fn doubts(&self, at: Timestamp) -> bool {
        self.behind_at.is_some_and(|start| at < start)
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.origin.plus(self.clock.boot())
    }

    /// Where a wall-clock date of someone else lies on this timeline.
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

    /// The clock underneath.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}
