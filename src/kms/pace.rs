//! How soon something that failed is tried again.

use std::time::Duration;

use kms_agent_core::jitter;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The failures in a row of something that is tried again and again, for as long as there are any.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    failures: u32,
    retry_at: Duration,
}

impl Pace {
    /// One more failure at boot time `now`, after those `before`. The pause doubles each time, and half of it
    /// is left to chance.
    pub(crate) fn failed(before: Option<&Self>, now: Duration) -> Self {
        let failures = before.map_or(0, |pace| pace.failures);
        let bound = FIRST_PAUSE
            .saturating_mul(1 << failures.min(10))
            .min(LONGEST_PAUSE);
        Self {
            failures: failures.saturating_add(1),
            retry_at: now + bound / 2 + jitter::up_to(bound / 2),
        }
    }

    /// Whether there was no failure right before.
    pub(crate) fn is_first(&self) -> bool {
        self.failures == 1
    }

    /// When the next try is due, by boot time.
    pub(crate) fn retry_at(&self) -> Duration {
        self.retry_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_half_a_minute() {
        let mut pace = Pace::failed(None, Duration::ZERO);
        assert!(pace.retry_at() <= FIRST_PAUSE && pace.retry_at() >= FIRST_PAUSE / 2);
        for _ in 0..100 {
            pace = Pace::failed(Some(&pace), Duration::ZERO);
        }
        assert!(pace.retry_at() <= LONGEST_PAUSE && pace.retry_at() >= LONGEST_PAUSE / 2);
    }
}
