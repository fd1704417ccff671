use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::Clock;

use crate::credential::provider::Obtained;
use crate::gateway::Credential;

/// Temporary credentials are renewed this long before they end, or after three quarters of their life,
/// whichever is later.
const RENEW_BEFORE_EXPIRY: Duration = Duration::from_mins(15);

/// Dates of `Expiration` and `Date` are cut to the second, so credentials may end this much earlier than the
/// difference says.
const BLUR: Duration = Duration::from_secs(1);

/// Shortest life of credentials, so that their issuer is not asked without pause.
const LEAST_LIFE: Duration = Duration::from_millis(250);

/// Credentials for one request.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) credential: Arc<Credential>,
    /// The stable name of who they make the agent.
    pub(crate) identity: Arc<str>,
}

/// Credentials that came, and how long they last.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) lease: Lease,
    /// By boot time, so that a change of the wall clock has no effect; `None` for static ones.
    life: Option<Life>,
}

#[derive(Clone, Copy, Debug)]
struct Life {
    renew_at: Duration,
    /// From then on they may have ended, for all that their dates say.
    sure_until: Duration,
    used_until: Duration,
}

impl Held {
    /// Credentials that came just now; `None` where they have ended already.
    pub(super) fn judge(obtained: Obtained, clock: &dyn Clock) -> Option<Self> {
        let life = match obtained.credential.expires_at() {
            None => None,
            Some(expires_at) => {
                let issued_at = obtained.issuer_time.unwrap_or_else(|| clock.wall());
                if expires_at < issued_at {
                    return None;
                }
                Some(Life::new(clock.boot(), expires_at.since(issued_at)))
            }
        };
        Some(Self {
            lease: Lease {
                credential: Arc::new(obtained.credential),
                identity: obtained.identity,
            },
            life,
        })
    }

    /// Time of the renewal; `None` for credentials that never end.
    pub(super) fn renew_at(&self) -> Option<Duration> {
        self.life.map(|life| life.renew_at)
    }

    /// Whether they end at all.
    pub(super) fn ends(&self) -> bool {
        self.life.is_some()
    }

    pub(super) fn is_usable(&self, now: Duration) -> bool {
        self.life.is_none_or(|life| now < life.used_until)
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.life
            .is_some_and(|life| now >= life.renew_at.min(life.sure_until))
    }
}

impl Life {
    /// Of credentials that come at boot time `now` and have this long `left` by their dates.
    fn new(now: Duration, left: Duration) -> Self {
        let usable = left.saturating_sub(BLUR).max(left / 2).max(LEAST_LIFE);
        let renew_after = (left * 3 / 4).max(left.saturating_sub(RENEW_BEFORE_EXPIRY));
        // Where life is a matter of seconds, the second that is taken off must not eat up the time to renew.
        let latest = (usable * 3 / 4).max(usable.saturating_sub(BLUR));
        Self {
            renew_at: now + renew_after.min(latest).max(LEAST_LIFE),
            sure_until: now + left.saturating_sub(BLUR),
            used_until: now + usable,
        }
    }
}

impl Lease {
    /// Whether both would sign alike.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.credential, &other.credential)
            || (self.credential.access_key_id() == other.credential.access_key_id()
                && self.credential.security_token() == other.credential.security_token())
    }
}
