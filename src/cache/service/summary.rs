//! Summary of reads that KMS could not answer, logged at once and then once a minute while they go on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const TELL_EVERY: Duration = Duration::from_mins(1);

/// Counts of stale answers and errors since the last log line.
#[derive(Debug, Default)]
pub(crate) struct ReadSummary {
    stale: AtomicU64,
    failed: AtomicU64,
    /// In boot time.
    told_at: Mutex<Option<Duration>>,
}

impl ReadSummary {
    /// A reader got an expired copy.
    pub(crate) fn stale(&self) {
        self.stale.fetch_add(1, Ordering::Relaxed);
    }

    /// A reader got an error.
    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes the line that is due at `now`, if one is.
    pub(crate) fn tell(&self, now: Duration) {
        let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        if told_at.is_some_and(|at| now < at + TELL_EVERY) {
            return;
        }
        let stale = self.stale.swap(0, Ordering::Relaxed);
        let failed = self.failed.swap(0, Ordering::Relaxed);
        *told_at = (stale + failed > 0).then_some(now);
        if told_at.is_some() {
            tracing::info!(
                stale,
                failed,
                "Reads were answered with expired copies or errors"
            );
        }
    }
}
