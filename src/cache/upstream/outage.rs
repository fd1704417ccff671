//! Outages: keys that KMS failed to answer lately, and when the next try is due.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kms_agent_core::secret::SecretKey;
use kms_agent_core::source::SourceErrorKind;
use kms_agent_core::{Backoff, jitter};

const BACKOFF: Backoff = Backoff::new(FIRST_PAUSE, Duration::from_mins(1));
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// After this a probe that never came back no longer keeps others from trying.
const PROBE_LIMIT: Duration = Duration::from_secs(15);

/// Keys in transient failure, and the endpoint as a whole.
///
/// A key that is in here is answered from its copy at once and retried in the background only. While the
/// endpoint as a whole fails that goes for every key, and one probe at a time finds out whether it is back.
#[derive(Debug)]
pub(crate) struct Outage {
    /// The most keys that are told apart; of the others only the endpoint's state is known.
    capacity: NonZeroUsize,
    state: Mutex<OutageState>,
}

#[derive(Debug, Default)]
struct OutageState {
    keys: HashMap<SecretKey, Failing>,
    endpoint: Option<Failing>,
    /// Time when the probe under way was sent.
    probing_since: Option<Duration>,
    /// The last key to fail in a way that may be its own.
    suspect: Option<SecretKey>,
}

#[derive(Clone, Debug)]
struct Failing {
    failures: u32,
    retry_at: Duration,
    code: String,
    /// Whether the outage was reported; slowness alone is not.
    announced: bool,
}

/// State of a failing key, for a reader that would ask KMS.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Code of the last failure.
    pub(crate) code: String,
    /// Whether this reader is to retry in the background.
    pub(crate) retry: bool,
}

impl Outage {
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        Self {
            capacity,
            state: Mutex::default(),
        }
    }

    /// State of `key` at boot time `now`; `None` while all is well. A caller that is told to retry must do so.
    pub(crate) fn standing(&self, key: &SecretKey, now: Duration) -> Option<Standing> {
        let mut state = self.lock();
        let failing = state.keys.get(key);
        if let Some(endpoint) = &state.endpoint {
            let code = failing.unwrap_or(endpoint).code.clone();
            let probing = state
                .probing_since
                .is_some_and(|since| now < since + PROBE_LIMIT);
            let retry = now >= endpoint.retry_at && !probing;
            if retry {
                state.probing_since = Some(now);
            }
            return Some(Standing { code, retry });
        }
        failing.map(|failing| Standing {
            code: failing.code.clone(),
            retry: now >= failing.retry_at,
        })
    }

    /// Notes that a call for `key` is under way for longer than a reader with a copy waits. However many
    /// readers say so, it is one call.
    pub(crate) fn hangs(&self, key: &SecretKey, code: &str, now: Duration) {
        let mut state = self.lock();
        if state.keys.contains_key(key) || state.endpoint.is_some() {
            return;
        }
        let mut failing = Failing::again(None, code, now, None);
        failing.failures = 0;
        failing.announced = false;
        state.note(key, failing, self.capacity);
    }

    /// Notes a transient failure of one call. Returns whether it begins an outage.
    pub(crate) fn failed(
        &self,
        key: &SecretKey,
        kind: SourceErrorKind,
        code: &str,
        now: Duration,
        retry_after: Option<Duration>,
    ) -> bool {
        let mut state = self.lock();
        let before = state.keys.get(key);
        let begins = state.endpoint.is_none() && before.is_none_or(|before| !before.announced);
        let failing = Failing::again(before, code, now, retry_after);
        state.note(key, failing, self.capacity);
        let others_too = state.suspect.as_ref().is_some_and(|suspect| suspect != key);
        match reach(kind) {
            FailureReach::Endpoint => state.endpoint_failed(code, now, retry_after),
            FailureReach::Unknown if others_too || state.endpoint.is_some() => {
                state.endpoint_failed(code, now, retry_after);
            }
            FailureReach::Unknown => state.suspect = Some(key.clone()),
            FailureReach::NoKey => {}
        }
        begins
    }

    /// Returns how long other agents leave `key` alone after it has failed at boot time `now`.
    pub(crate) fn retry_after(&self, key: &SecretKey, now: Duration) -> Duration {
        let state = self.lock();
        let failing = state.keys.get(key);
        failing.map_or(Duration::ZERO, |it| it.retry_at.saturating_sub(now))
    }

    /// KMS answered for `key`, whatever the answer was. Returns whether that ends an outage.
    pub(crate) fn answered(&self, key: &SecretKey, now: Duration) -> bool {
        let mut state = self.lock();
        let ended = state.keys.remove(key).is_some() || state.endpoint.is_some();
        state.suspect = None;
        state.probing_since = None;
        if state.endpoint.take().is_some() {
            // What failed along with the endpoint need not wait any longer.
            for failing in state.keys.values_mut() {
                failing.retry_at = now;
            }
        }
        ended
    }

    /// Forgets keys without a retry for long: no reader asks for them any more.
    pub(crate) fn sweep(&self, now: Duration) {
        self.lock()
            .keys
            .retain(|_, failing| now < failing.retry_at + 10 * BACKOFF.longest());
    }

    fn lock(&self) -> MutexGuard<'_, OutageState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OutageState {
    fn note(&mut self, key: &SecretKey, failing: Failing, capacity: NonZeroUsize) {
        if self.keys.len() < capacity.get() || self.keys.contains_key(key) {
            self.keys.insert(key.clone(), failing);
        }
    }

    fn endpoint_failed(&mut self, code: &str, now: Duration, retry_after: Option<Duration>) {
        self.endpoint = Some(Failing::again(
            self.endpoint.as_ref(),
            code,
            now,
            retry_after,
        ));
        self.probing_since = None;
    }
}

impl Failing {
    /// One failure more: the pause doubles each time, with full jitter above the first second.
    fn again(
        before: Option<&Self>,
        code: &str,
        now: Duration,
        retry_after: Option<Duration>,
    ) -> Self {
        let failures = before.map_or(0, |before| before.failures);
        let above_first = BACKOFF.bound(failures).saturating_sub(FIRST_PAUSE);
        let pause = FIRST_PAUSE + jitter::up_to(above_first);
        let asked_for = retry_after.unwrap_or_default().min(BACKOFF.longest());
        Self {
            failures: failures.saturating_add(1),
            retry_at: now + pause.max(asked_for),
            code: code.to_owned(),
            announced: true,
        }
    }
}

/// Range of keys that a failure concerns.
enum FailureReach {
    /// Every key: nothing gets through to KMS, or it wants nothing to.
    Endpoint,
    /// Perhaps only this key; it takes a second one to tell.
    Unknown,
    /// KMS has nothing to do with it.
    NoKey,
}

fn reach(kind: SourceErrorKind) -> FailureReach {
    match kind {
        SourceErrorKind::ServerFailure
        | SourceErrorKind::InvalidAnswer
        | SourceErrorKind::TimedOut => FailureReach::Unknown,
        SourceErrorKind::BudgetSpent => FailureReach::NoKey,
        _ => FailureReach::Endpoint,
    }
}
