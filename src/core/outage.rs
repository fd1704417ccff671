//! Which keys KMS could not answer lately, and when each may be tried again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::jitter;
use crate::secret::SecretKey;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Keys in transient failure. While a key is in here its readers are answered from the copy at once, and it
/// is retried in the background only.
#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<HashMap<SecretKey, Failing>>);

#[derive(Debug)]
struct Failing {
    failures: u32,
    retry_at: Duration,
    code: String,
}

/// What a key in transient failure allows.
#[derive(Debug)]
pub(crate) struct FailingKey {
    /// What the last failure was called.
    pub(crate) code: String,
    /// Whether it is time for another try.
    pub(crate) retry_due: bool,
}

impl Outage {
    /// The state of `key` at boot time `now`; `None` while all is well.
    pub(crate) fn of(&self, key: &SecretKey, now: Duration) -> Option<FailingKey> {
        self.lock().get(key).map(|failing| FailingKey {
            code: failing.code.clone(),
            retry_due: now >= failing.retry_at,
        })
    }

    /// Notes a transient failure: the pause doubles each time, with full jitter above the first second.
    /// Returns whether it is the first one of this outage.
    pub(crate) fn failed(
        &self,
        key: &SecretKey,
        code: &str,
        now: Duration,
        retry_after: Option<Duration>,
    ) -> bool {
        let mut keys = self.lock();
        let failures = keys.get(key).map_or(0, |failing| failing.failures);
        let ceiling = FIRST_PAUSE
            .saturating_mul(1 << failures.min(6))
            .min(LONGEST_PAUSE);
        let pause = (FIRST_PAUSE + jitter::up_to(ceiling.saturating_sub(FIRST_PAUSE)))
            .max(retry_after.unwrap_or_default().min(LONGEST_PAUSE));
        keys.insert(
            key.clone(),
            Failing {
                failures: failures.saturating_add(1),
                retry_at: now + pause,
                code: code.to_owned(),
            },
        );
        failures == 0
    }

    /// KMS answered for `key`, whatever the answer was. Returns whether that ends an outage.
    pub(crate) fn answered(&self, key: &SecretKey) -> bool {
        self.lock().remove(key).is_some()
    }

    /// Drops keys that nobody has retried for long: nobody asks for them any more.
    pub(crate) fn sweep(&self, now: Duration) {
        self.lock()
            .retain(|_, failing| now < failing.retry_at + 10 * LONGEST_PAUSE);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SecretKey, Failing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
