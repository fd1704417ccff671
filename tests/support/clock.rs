//! A clock that stands still until a test advances it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kms_agent_core::{Clock, Timestamp};
use tokio::sync::watch;

/// A clock that a test advances. Clones share the time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    boot: Arc<watch::Sender<Duration>>,
    /// Wall time at boot time zero.
    wall: Arc<Mutex<Timestamp>>,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self {
            boot: Arc::new(watch::Sender::new(Duration::from_secs(1000))),
            wall: Arc::new(Mutex::new(Timestamp::from_millis(1_790_000_000_000))),
        }
    }
}

impl ManualClock {
    /// Advances boot time and wall time by `duration`, and wakes the sleepers whose deadline has passed.
    pub fn advance(&self, duration: Duration) {
        self.boot.send_modify(|boot| *boot += duration);
    }

    /// Sets the wall clock without advancing boot time.
    pub fn set_wall(&self, wall: Timestamp) {
        *self.lock_wall() = wall.minus(*self.boot.borrow());
    }

    /// Returns the number of tasks that wait for the clock.
    pub fn sleepers(&self) -> usize {
        self.boot.receiver_count()
    }

    fn lock_wall(&self) -> std::sync::MutexGuard<'_, Timestamp> {
        self.wall.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn boot(&self) -> Duration {
        *self.boot.borrow()
    }

    fn wall(&self) -> Timestamp {
        self.lock_wall().plus(self.boot())
    }

    async fn sleep_until(&self, deadline: Duration) {
        let mut boot = self.boot.subscribe();
        // The sender lives as long as `self`.
        let _ = boot.wait_for(|now| *now >= deadline).await;
    }
}
