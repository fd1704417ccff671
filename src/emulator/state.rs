//! State of the services, shared by all connections and the handle.

pub(crate) mod action;
pub(crate) mod call;
pub(crate) mod key;
pub(crate) mod metadata;
pub(crate) mod nonce;
pub(crate) mod random;
pub(crate) mod secret;
pub(crate) mod trust;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

use self::call::Calls;
use self::key::{AccessKey, Keys, SessionCredentials};
use self::metadata::MetadataState;
use self::nonce::Nonces;
use self::random::Draw;
use self::secret::{PutSecret, Secrets};
use self::trust::RoleTrust;
use crate::fault::Faults;
use crate::wire::refusal::InvalidOrder;

/// Default lifetime of temporary keys.
const SESSION_LIFETIME: Duration = Duration::from_hours(1);

/// State of the emulator behind its listener.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) draw: Draw,
    pub(crate) region: String,
    pub(crate) account_id: String,
    /// Host and port.
    pub(crate) endpoint: String,
    /// Base URL, without a path.
    pub(crate) base_url: String,
    pub(crate) control_api: bool,
    /// Key that is valid after a reset.
    pub(crate) access_key: AccessKey,
    accepted: AtomicU64,
    state: Mutex<EmulatorState>,
}

/// Parts of the emulator.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) region: String,
    pub(crate) account_id: String,
    pub(crate) endpoint: String,
    pub(crate) base_url: String,
    pub(crate) control_api: bool,
}

impl Services {
    pub(crate) fn new(draw: Draw, access_key: AccessKey, identity: Identity) -> Self {
        Self {
            draw,
            region: identity.region,
            account_id: identity.account_id,
            endpoint: identity.endpoint,
            base_url: identity.base_url,
            control_api: identity.control_api,
            state: Mutex::new(EmulatorState::new(&access_key)),
            access_key,
            accepted: AtomicU64::new(0),
        }
    }

    /// Locks the state; never held across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, EmulatorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a version of a secret and returns its id.
    pub(crate) fn put_secret(&self, order: PutSecret) -> Result<String, InvalidOrder> {
        let drawn = self.draw.hex(32);
        let mut state = self.state();
        let now = state.now();
        state.secrets.put(order, drawn, now)
    }

    /// Resets everything. Calls under way are not affected.
    pub(crate) fn reset(&self) {
        let mut state = self.state();
        let mut calls = std::mem::take(&mut state.calls);
        calls.clear();
        *state = EmulatorState::new(&self.access_key);
        state.calls = calls;
    }

    pub(crate) fn note_connection(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connections(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// Mutable state.
pub(crate) struct EmulatorState {
    /// Seconds by which the services' clock is ahead of the machine's.
    pub(crate) clock_offset: i64,
    /// Overrides the duration that a client asks for.
    pub(crate) session_lifetime: Option<Duration>,
    pub(crate) keys: Keys,
    pub(crate) secrets: Secrets,
    pub(crate) nonces: Nonces,
    pub(crate) faults: Faults,
    pub(crate) calls: Calls,
    pub(crate) metadata: MetadataState,
    pub(crate) trust: RoleTrust,
    /// Current key of the credentials URI.
    pub(crate) handed_out: Option<SessionCredentials>,
}

impl EmulatorState {
    fn new(access_key: &AccessKey) -> Self {
        let mut keys = Keys::default();
        keys.add(access_key.clone(), true);
        Self {
            clock_offset: 0,
            session_lifetime: None,
            keys,
            secrets: Secrets::default(),
            nonces: Nonces::default(),
            faults: Faults::default(),
            calls: Calls::default(),
            metadata: MetadataState::default(),
            trust: RoleTrust::default(),
            handed_out: None,
        }
    }

    /// Returns the services' time.
    pub(crate) fn now(&self) -> OffsetDateTime {
        let now = OffsetDateTime::now_utc();
        now.saturating_add(time::Duration::seconds(self.clock_offset))
    }

    /// Issues a temporary key for the configured lifetime, else the requested one, else an hour.
    pub(crate) fn issue_session(
        &mut self,
        draw: &Draw,
        asked: Option<Duration>,
    ) -> SessionCredentials {
        let lifetime = self.session_lifetime.or(asked).unwrap_or(SESSION_LIFETIME);
        let lifetime = time::Duration::try_from(lifetime).unwrap_or(time::Duration::MAX);
        let expires_at = self.now().saturating_add(lifetime);
        self.keys.issue_session(draw, expires_at)
    }
}

impl std::fmt::Debug for EmulatorState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}
