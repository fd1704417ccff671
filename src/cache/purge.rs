//! Log of recent purges, so that a fetch which was under way then is answered and not stored.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kms_agent_core::fleet::Removal;
use kms_agent_core::secret::SecretId;

/// Fetches end within seconds; one that has outlived this many purges is taken for purged.
const REMEMBERED: usize = 256;

/// The purges of the last moments.
#[derive(Debug, Default)]
pub(crate) struct PurgeLog(Mutex<PurgeLogState>);

#[derive(Debug, Default)]
struct PurgeLogState {
    /// Number of all purges so far.
    count: u64,
    /// The last ones, the newest at the back.
    recent: VecDeque<Removal>,
}

impl PurgeLog {
    /// The present moment, for [`has_covered_since`](Self::has_covered_since).
    pub(crate) fn mark(&self) -> u64 {
        self.lock().count
    }

    pub(crate) fn note(&self, purged: Removal) {
        let mut state = self.lock();
        state.count += 1;
        if state.recent.len() == REMEMBERED {
            state.recent.pop_front();
        }
        state.recent.push_back(purged);
    }

    /// Whether a purge later than `mark` was about `id`.
    pub(crate) fn has_covered_since(&self, mark: u64, id: &SecretId) -> bool {
        let state = self.lock();
        let later = usize::try_from(state.count.saturating_sub(mark)).unwrap_or(usize::MAX);
        later > state.recent.len()
            || state
                .recent
                .iter()
                .rev()
                .take(later)
                .any(|purged| purged.covers(id))
    }

    fn lock(&self) -> MutexGuard<'_, PurgeLogState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_later_purges_of_the_same_secret_count() {
        let id = |text| SecretId::parse(text).unwrap();
        let log = PurgeLog::default();
        log.note(Removal::Name(id("a").name().into()));
        let mark = log.mark();
        assert!(!log.has_covered_since(mark, &id("a")));
        log.note(Removal::Name(id("acs:kms:r:1:secret/b").name().into()));
        assert!(!log.has_covered_since(mark, &id("a")));
        assert!(log.has_covered_since(mark, &id("b")));
        log.note(Removal::Everything);
        assert!(log.has_covered_since(mark, &id("a")));
    }

    #[test]
    fn a_mark_older_than_the_log_counts_as_purged() {
        let id = SecretId::parse("a").unwrap();
        let log = PurgeLog::default();
        for _ in 0..=REMEMBERED {
            log.note(Removal::Name("b".into()));
        }
        assert!(log.has_covered_since(0, &id));
        assert!(!log.has_covered_since(1, &id));
    }
}
