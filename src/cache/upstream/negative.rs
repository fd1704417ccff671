//! Memory of refusals, so that a reader in a loop does not become a stream of calls.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kms_agent_core::fleet::Removal;
use kms_agent_core::lifetime::Timestamp;
use kms_agent_core::secret::SecretKey;
use kms_agent_core::source::SourceError;

/// Refusals by key, bounded in number and time. Nothing in here walks over all of them but a purge of
/// everything.
#[derive(Debug)]
pub(crate) struct NegativeMemory {
    capacity: NonZeroUsize,
    refusals: Mutex<RefusalsByKey>,
}

#[derive(Debug, Default)]
struct RefusalsByKey {
    /// By the bare name of the secret, which is what a purge is about.
    by_name: HashMap<Box<str>, HashMap<SecretKey, Remembered>>,
    /// The same, oldest first.
    by_age: BTreeMap<Age, SecretKey>,
    last_number: u64,
}

/// The number tells apart what was refused at the same moment.
type Age = (Timestamp, u64);

#[derive(Debug)]
struct Remembered {
    error: Arc<SourceError>,
    age: Age,
}

impl NegativeMemory {
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        Self {
            capacity,
            refusals: Mutex::default(),
        }
    }

    /// The refusal of `key` that is younger than `ttl`.
    pub(crate) fn recall(
        &self,
        key: &SecretKey,
        ttl: Duration,
        now: Timestamp,
    ) -> Option<Arc<SourceError>> {
        let refusals = self.lock();
        let remembered = refusals.by_name.get(key.secret.id.name())?.get(key)?;
        (now.since(remembered.age.0) < ttl).then(|| Arc::clone(&remembered.error))
    }

    pub(crate) fn remember(&self, key: SecretKey, error: Arc<SourceError>, now: Timestamp) {
        let mut refusals = self.lock();
        refusals.forget(&key);
        if refusals.by_age.len() >= self.capacity.get() {
            refusals.forget_oldest();
        }
        refusals.last_number += 1;
        let age = (now, refusals.last_number);
        refusals.by_age.insert(age, key.clone());
        let name = key.secret.id.name().into();
        let of_name = refusals.by_name.entry(name).or_default();
        of_name.insert(key, Remembered { error, age });
    }

    pub(crate) fn forget(&self, key: &SecretKey) {
        self.lock().forget(key);
    }

    /// Drops the refusals of what was purged.
    pub(crate) fn purge(&self, purged: &Removal) {
        let mut refusals = self.lock();
        match purged {
            Removal::Everything => {
                refusals.by_name.clear();
                refusals.by_age.clear();
            }
            Removal::Name(name) => {
                for (_, remembered) in refusals.by_name.remove(name).into_iter().flatten() {
                    refusals.by_age.remove(&remembered.age);
                }
            }
        }
    }

    /// Drops what is older than `ttl`.
    pub(crate) fn sweep(&self, ttl: Duration, now: Timestamp) {
        let mut refusals = self.lock();
        while let Some(((refused_at, _), _)) = refusals.by_age.first_key_value()
            && now.since(*refused_at) >= ttl
        {
            refusals.forget_oldest();
        }
    }

    fn lock(&self) -> MutexGuard<'_, RefusalsByKey> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RefusalsByKey {
    fn forget(&mut self, key: &SecretKey) {
        let name = key.secret.id.name();
        let Some(of_name) = self.by_name.get_mut(name) else {
            return;
        };
        if let Some(remembered) = of_name.remove(key) {
            self.by_age.remove(&remembered.age);
        }
        if of_name.is_empty() {
            self.by_name.remove(name);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.by_age.pop_first() {
            self.forget(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kms_agent_core::secret::{Scope, SecretId, SecretRef, VersionSelector};
    use kms_agent_core::source::SourceErrorKind;

    const TTL: Duration = Duration::from_secs(5);

    fn key(id: &str, stage: Option<&str>) -> SecretKey {
        SecretKey {
            scope: Arc::new(Scope {
                endpoint: "kms.example".into(),
                identity: "identity".into(),
            }),
            secret: SecretRef {
                id: SecretId::parse(id).unwrap(),
                selector: VersionSelector::parse(None, stage).unwrap(),
            },
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000)
    }

    fn memory(capacity: usize) -> NegativeMemory {
        NegativeMemory::new(NonZeroUsize::new(capacity).unwrap())
    }

    fn remember(memory: &NegativeMemory, key: SecretKey, second: i64) {
        let error = SourceError::new(SourceErrorKind::Decision, "refused");
        memory.remember(key, Arc::new(error), at(second));
    }

    fn sizes(memory: &NegativeMemory) -> (usize, usize) {
        let refusals = memory.lock();
        let by_name = refusals.by_name.values().map(HashMap::len).sum();
        (by_name, refusals.by_age.len())
    }

    #[test]
    fn the_oldest_gives_way_and_both_orders_agree() {
        let memory = memory(3);
        for (n, id) in ["a", "b", "c", "a", "d"].iter().enumerate() {
            remember(&memory, key(id, None), i64::try_from(n).unwrap());
        }
        let known = |id| memory.recall(&key(id, None), TTL, at(4)).is_some();
        assert!(!known("b"), "it was the oldest: a was refused again");
        assert!(known("a") && known("c") && known("d"));
        assert_eq!(sizes(&memory), (3, 3));
        memory.sweep(TTL, at(8));
        assert_eq!(sizes(&memory), (1, 1));
        memory.forget(&key("d", None));
        assert_eq!(sizes(&memory), (0, 0));
    }

    #[test]
    fn a_purge_of_a_name_takes_every_version_and_the_arn_along() {
        let memory = memory(10);
        for key in [
            key("a", None),
            key("a", Some("ACSPrevious")),
            key("acs:kms:cn:1:secret/a", None),
            key("b", None),
        ] {
            remember(&memory, key, 0);
        }
        memory.purge(&Removal::Name("a".into()));
        assert_eq!(sizes(&memory), (1, 1));
        memory.purge(&Removal::Everything);
        assert_eq!(sizes(&memory), (0, 0));
    }
}
