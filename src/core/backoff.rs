//! Exponential back-off: when something that failed is tried again.

pub mod jitter;

use std::time::Duration;

/// Pauses that double with each failure in a row, from `first` to `longest`.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

/// Failures in a row, and when the next try is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    failures: u32,
    due_at: Duration,
}

impl Backoff {
    /// Doubles from `first` up to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// Longest pause that any number of failures leads to.
    pub const fn longest(self) -> Duration {
        self.longest
    }

    /// Upper bound of the pause after a failure that `failures` others came right before.
    pub fn bound(self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// Pause between half of [`bound`](Self::bound) and all of it, so that many agents do not retry together.
    pub fn pause(self, failures: u32) -> Duration {
        let half = self.bound(failures) / 2;
        half + jitter::up_to(half)
    }

    /// Counts a failure at boot time `now`, after those of `before`.
    #[must_use]
    pub fn failed(self, before: Option<&Retry>, now: Duration) -> Retry {
        let failures = before.map_or(0, |retry| retry.failures);
        Retry {
            failures: failures.saturating_add(1),
            due_at: now + self.pause(failures),
        }
    }
}

impl Retry {
    /// Whether the first try of a row has failed just now.
    pub fn is_first(&self) -> bool {
        self.failures == 1
    }

    /// Boot time of the next try.
    pub fn due_at(&self) -> Duration {
        self.due_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

    #[test]
    fn the_bound_doubles_up_to_the_longest_pause() {
        let bounds = [0, 1, 2, 4, 5, 31, 32, u32::MAX].map(|it| BACKOFF.bound(it).as_secs());
        assert_eq!(bounds, [1, 2, 4, 16, 30, 30, 30, 30]);
    }

    #[test]
    fn pauses_lie_in_the_upper_half_and_failures_add_up() {
        let mut retry = BACKOFF.failed(None, Duration::ZERO);
        assert!(retry.is_first());
        assert!(retry.due_at() <= BACKOFF.first && retry.due_at() >= BACKOFF.first / 2);
        for _ in 0..100 {
            retry = BACKOFF.failed(Some(&retry), Duration::ZERO);
        }
        assert!(!retry.is_first());
        assert!(retry.due_at() <= BACKOFF.longest && retry.due_at() >= BACKOFF.longest / 2);
    }
}
