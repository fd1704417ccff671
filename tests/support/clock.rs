//! Time that stands still until a test moves it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kms_agent_core::{Clock, Timestamp};
use tokio::sync::watch;

/// A clock that a test drives. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    boot: Arc<watch::Sender<Duration>>,
    /// What the wall shows at boot time zero.
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
    /// Lets `duration` pass, on the wall too. Whoever sleeps until then or earlier wakes.
    pub fn advance(&self, duration: Duration) {
        self.boot.send_modify(|boot| *boot += duration);
    }

    /// Sets the wall clock without any time passing.
    pub fn set_wall(&self, wall: Timestamp) {
        *self.lock_wall() = wall.minus(*self.boot.borrow());
    }

    /// How many wait for the clock to move.
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
