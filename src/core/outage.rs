//! What KMS could not answer lately, and when it may be asked again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::jitter;
use crate::secret::SecretKey;
use crate::source::SourceErrorKind;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// After this a probe that never came back no longer keeps others from trying.
const PROBE_LIMIT: Duration = Duration::from_secs(15);

/// Keys in transient failure, and the endpoint as a whole.
///
/// A key that is in here is answered from its copy at once and retried in the background only. While the
/// endpoint as a whole fails that goes for every key, and one probe at a time finds out whether it is back.
#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    keys: HashMap<SecretKey, Failing>,
    endpoint: Option<Failing>,
    /// When the probe under way was sent.
    probing_since: Option<Duration>,
    /// The last key to fail in a way that may be its own.
    suspect: Option<SecretKey>,
}

#[derive(Clone, Debug)]
struct Failing {
    failures: u32,
    retry_at: Duration,
    code: String,
}

/// What there is to know before KMS is asked about a failing key.
#[derive(Debug)]
pub(crate) struct Standing {
    /// What the last failure was called.
    pub(crate) code: String,
    /// Whether whoever is told this is to try again, in the background.
    pub(crate) retry: bool,
}

impl Outage {
    /// How `key` stands at boot time `now`; `None` while all is well. Who is told to retry must.
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

    /// Notes a transient failure. Returns whether it begins an outage.
    pub(crate) fn failed(
        &self,
        key: &SecretKey,
        kind: SourceErrorKind,
        code: &str,
        now: Duration,
        retry_after: Option<Duration>,
    ) -> bool {
        let mut state = self.lock();
        let begins = state.endpoint.is_none() && !state.keys.contains_key(key);
        let failing = Failing::again(state.keys.get(key), code, now, retry_after);
        state.keys.insert(key.clone(), failing);
        let others_too = state.suspect.as_ref().is_some_and(|suspect| suspect != key);
        if state.endpoint.is_some() || concerns_every_key(kind) || others_too {
            state.endpoint = Some(Failing::again(
                state.endpoint.as_ref(),
                code,
                now,
                retry_after,
            ));
            state.probing_since = None;
        } else {
            state.suspect = Some(key.clone());
        }
        begins
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

    /// Forgets keys that nobody has retried for long: nobody asks for them any more.
    pub(crate) fn sweep(&self, now: Duration) {
        self.lock()
            .keys
            .retain(|_, failing| now < failing.retry_at + 10 * LONGEST_PAUSE);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let ceiling = FIRST_PAUSE
            .saturating_mul(1 << failures.min(6))
            .min(LONGEST_PAUSE);
        let pause = FIRST_PAUSE + jitter::up_to(ceiling.saturating_sub(FIRST_PAUSE));
        let asked_for = retry_after.unwrap_or_default().min(LONGEST_PAUSE);
        Self {
            failures: failures.saturating_add(1),
            retry_at: now + pause.max(asked_for),
            code: code.to_owned(),
        }
    }
}

/// Whether one such failure says that no key can be had. A failure told by KMS itself, or an answer that is
/// none, may be about one secret; it takes a second key to tell.
fn concerns_every_key(kind: SourceErrorKind) -> bool {
    !matches!(
        kind,
        SourceErrorKind::ServerFailure | SourceErrorKind::InvalidAnswer
    )
}
