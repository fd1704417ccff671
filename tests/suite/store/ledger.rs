//! Entries that a store may hold, by the operations and the reported commits.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kms_agent_core::Timestamp;

/// Steps of each secret since it was last checked.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<BTreeMap<String, Vec<LedgerStep>>>);

/// A change of a secret's entry.
#[derive(Clone, Debug)]
struct LedgerStep {
    /// Value, or `None` after a purge.
    value: Option<String>,
    answered: Answered,
}

#[derive(Clone, Copy, Debug)]
enum Answered {
    No,
    /// Time of the step: it is durable once the store reports a later commit.
    At(Timestamp),
    Durable,
}

/// Counts of proven entries.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Proven {
    /// Entries that had to be there.
    pub(super) puts: usize,
    /// Entries that had to be gone.
    pub(super) purges: usize,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<LedgerStep>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the value that a read must give if the agent answers it.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.lock().get(name)?.last()?.value.clone()
    }

    /// Records that the secret is about to become `value`.
    pub(super) fn begin(&self, name: &str, value: Option<&str>) {
        self.lock()
            .entry(name.to_owned())
            .or_default()
            .push(LedgerStep {
                value: value.map(ToOwned::to_owned),
                answered: Answered::No,
            });
    }

    /// Records that the last step was answered. A purge is durable from then on.
    pub(super) fn answered(&self, name: &str) {
        let mut steps = self.lock();
        let step = steps.get_mut(name).and_then(|steps| steps.last_mut());
        let step = step.expect("it was begun");
        step.answered = match step.value {
            None => Answered::Durable,
            Some(_) => Answered::At(now()),
        };
    }

    /// Returns the names of all secrets that ever had an entry.
    pub(super) fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Compares the `found` entry of `name` with the allowed ones: that of the last durable step or of a later one.
    /// The found entry is the only one allowed afterwards.
    pub(super) fn check(&self, name: &str, found: Option<&str>, committed_at: Timestamp) -> Proven {
        let mut all = self.lock();
        let steps = all.get_mut(name).expect("it is known");
        let durable = steps.iter().rposition(|step| match step.answered {
            Answered::No => false,
            Answered::At(at) => at < committed_at,
            Answered::Durable => true,
        });
        let possible = steps.get(durable.unwrap_or(0)..).unwrap_or_default();
        // Before the first durable step the entry was absent.
        let nothing = durable.is_none() && found.is_none();
        assert!(
            nothing || possible.iter().any(|step| step.value.as_deref() == found),
            "{name} is {found:?}, committed at {committed_at:?}, after {steps:#?}"
        );
        let proven = match possible {
            [only] if durable.is_some() => Proven {
                puts: usize::from(only.value.is_some()),
                purges: usize::from(only.value.is_none()),
            },
            _ => Proven::default(),
        };
        *steps = vec![LedgerStep {
            value: found.map(ToOwned::to_owned),
            answered: Answered::Durable,
        }];
        proven
    }
}

/// Returns the wall clock.
pub(super) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let since = since.expect("a date after 1970").as_millis();
    Timestamp::from_millis(i64::try_from(since).expect("a date before long"))
}
