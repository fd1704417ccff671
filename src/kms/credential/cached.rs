mod held;

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kms_agent_core::Clock;
use kms_agent_core::source::CredentialState;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use self::held::Held;
pub(crate) use self::held::Lease;
use super::provider::{CredentialError, CredentialProvider, Obtained};
use crate::gateway::renewal::{Renewal, Turn};
use crate::scope::PublishedScope;

/// The shortest time between two renewals that KMS's refusals set off.
const FORCED_AT_MOST_EVERY: Duration = Duration::from_mins(1);

/// The credentials of one provider, held while they last. Only one renewal is under way at a time.
#[derive(Debug)]
pub(crate) struct CachedCredential {
    provider: Box<dyn CredentialProvider>,
    clock: Arc<dyn Clock>,
    state: Mutex<CredentialCache>,
    /// Questions to the provider.
    renewal: Renewal<CredentialError>,
    /// Rung when the next renewal may have another date.
    changed: Notify,
    /// Expiry of the credentials, in seconds of Unix time.
    expiry: Gauge,
    /// Published scope, which gets the identity as soon as it is known.
    scope: Arc<PublishedScope>,
}

#[derive(Debug, Default)]
struct CredentialCache {
    held: Option<Held>,
    /// Whether the log says of the present failure that there are no credentials left.
    told_unusable: bool,
    /// Last renewal that a refusal by KMS set off.
    forced_at: Option<Duration>,
}

impl CachedCredential {
    pub(crate) fn new(
        provider: Box<dyn CredentialProvider>,
        clock: Arc<dyn Clock>,
        expiry: Gauge,
        scope: Arc<PublishedScope>,
    ) -> Self {
        let credential = Self {
            provider,
            renewal: Renewal::new(Arc::clone(&clock)),
            clock,
            state: Mutex::default(),
            changed: Notify::new(),
            expiry,
            scope,
        };
        credential.publish();
        credential
    }

    /// The agent's identity, if it is known.
    fn identity(&self) -> Option<Arc<str>> {
        let held = self
            .lock()
            .held
            .as_ref()
            .map(|held| Arc::clone(&held.lease.identity));
        held.or_else(|| self.provider.identity())
    }

    /// The part of a file that holds the credentials, if a file does.
    pub(crate) fn place(&self) -> Option<String> {
        self.provider.place()
    }

    pub(crate) fn state(&self) -> CredentialState {
        let now = self.clock.boot();
        let state = self.lock();
        let held = state.held.as_ref().filter(|held| held.is_usable(now));
        CredentialState {
            provider: Some(self.provider.name().into()),
            usable: held.is_some(),
            expires_at: held.and_then(|held| held.lease.credential.expires_at()),
            renewal_fails: self.renewal.failure().is_some(),
        }
    }

    /// Credentials that can be used now. The provider is asked only where there are none; a failure is
    /// remembered for a moment, so that readers do not queue up for the next one.
    pub(crate) async fn current(&self) -> Result<Lease, CredentialError> {
        if let Some(lease) = self.usable() {
            return Ok(lease);
        }
        let turn = self.renewal.turn().await;
        if let Some(lease) = self.usable() {
            return Ok(lease);
        }
        if let Some(error) = turn.failure() {
            return Err(error);
        }
        self.ask(&turn).await
    }

    fn usable(&self) -> Option<Lease> {
        self.lock().usable(self.clock.boot())
    }

    /// Time of the one retry that a waiting reader waits for: after the first failure in a row, which may be a blip.
    pub(crate) fn second_try_at(&self) -> Option<Duration> {
        let retry = self.renewal.retry()?;
        (self.provider.renewable() && retry.is_first()).then(|| retry.due_at())
    }

    /// Other credentials than `refused`, which KMS does not accept: those that have come meanwhile, or newly
    /// asked for. `None` where there are no others, or the last such renewal was less than a minute ago. One
    /// that was due anyway does not count.
    pub(crate) async fn replace(&self, refused: &Lease) -> Option<Lease> {
        let turn = self.renewal.turn().await;
        {
            let mut state = self.lock();
            let now = self.clock.boot();
            if let Some(lease) = state.usable(now)
                && !lease.is_same(refused)
            {
                return Some(lease);
            }
            let retry = self.renewal.retry();
            let pausing = retry.is_some_and(|retry| now < retry.due_at());
            if pausing || !self.provider.renewable() {
                return None;
            }
            let due = state.held.as_ref().is_none_or(|held| held.is_due(now));
            if !due {
                let lately = state
                    .forced_at
                    .is_some_and(|at| now < at + FORCED_AT_MOST_EVERY);
                if lately {
                    return None;
                }
                state.forced_at = Some(now);
            }
        }
        self.ask(&turn)
            .await
            .ok()
            .filter(|lease| !lease.is_same(refused))
    }

    /// Gets credentials, renews them ahead of their expiry and when what they come from has changed, for as
    /// long as it is polled.
    pub(crate) async fn maintain(&self) {
        loop {
            let due = self.next_renewal();
            if due.is_some_and(|at| self.clock.boot() >= at) {
                let turn = self.renewal.turn().await;
                // Another caller may have renewed them while this one waited for its turn.
                if self
                    .next_renewal()
                    .is_some_and(|at| self.clock.boot() >= at)
                {
                    // A failure is logged where it is noted, and sets the date of the next try.
                    let _ = self.ask(&turn).await;
                }
                continue;
            }
            tokio::select! {
                () = self.sleep_until(due) => {}
                () = self.changed.notified() => {}
                () = self.provider.changed() => {
                    let turn = self.renewal.turn().await;
                    let _ = self.ask(&turn).await;
                }
            }
        }
    }

    async fn sleep_until(&self, due: Option<Duration>) {
        match due {
            Some(at) => self.clock.sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Time to ask the provider next; `None` while asking changes nothing.
    fn next_renewal(&self) -> Option<Duration> {
        let retry_at = self.renewal.retry().map(|retry| retry.due_at());
        match &self.lock().held {
            None if retry_at.is_some() && !self.provider.renewable() => None,
            None => Some(retry_at.unwrap_or_default()),
            Some(held) => held
                .renew_at()
                .map(|at| at.max(retry_at.unwrap_or_default())),
        }
    }

    fn publish(&self) {
        self.scope.set_identity(self.identity().as_deref());
    }

    /// Asks the provider.
    async fn ask(&self, turn: &Turn<'_, CredentialError>) -> Result<Lease, CredentialError> {
        let mut obtain = self.provider.obtain();
        // A provider may know the identity long before it has credentials: from a file, while STS is asked.
        let obtained = poll_fn(|context| {
            let polled = obtain.as_mut().poll(context);
            self.publish();
            polled
        });
        let outcome = obtained.await.and_then(|obtained| {
            let held = self.judge(obtained)?;
            let lease = held.lease.clone();
            Ok((held, lease))
        });
        let outcome = match outcome {
            Ok((held, lease)) => {
                self.succeeded(turn, held);
                Ok(lease)
            }
            Err(error) => {
                self.failed(turn, &error);
                Err(error)
            }
        };
        self.publish();
        self.changed.notify_one();
        outcome
    }

    /// Places the life of new credentials in boot time.
    fn judge(&self, obtained: Obtained) -> Result<Held, CredentialError> {
        let clock = &*self.clock;
        Held::judge(obtained, clock).ok_or_else(|| {
            CredentialError::new(format!(
                "the provider {} gave credentials that have expired already; check its clock and this machine's",
                self.provider.name()
            ))
        })
    }

    fn succeeded(&self, turn: &Turn<'_, CredentialError>, held: Held) {
        let expires_at = held.lease.credential.expires_at();
        self.expiry
            .set(expires_at.map_or(0, |at| at.as_millis().div_euclid(1000)));
        let mut state = self.lock();
        let recovered = turn.succeeded();
        let another = state
            .held
            .as_ref()
            .is_some_and(|before| before.lease.identity != held.lease.identity);
        // Never the identity itself: of a static key that is half of the key.
        if another {
            tracing::info!(
                provider = self.provider.name(),
                "The agent's identity changed"
            );
        } else if recovered || state.held.is_none() {
            tracing::info!(provider = self.provider.name(), "Credentials obtained");
        } else {
            tracing::debug!(provider = self.provider.name(), "Credentials renewed");
        }
        state.held = Some(held);
    }

    fn failed(&self, turn: &Turn<'_, CredentialError>, error: &CredentialError) {
        let now = self.clock.boot();
        let mut state = self.lock();
        // Credentials of the former identity must not serve the new one.
        let identity = self.provider.identity();
        if identity.is_some_and(|identity| state.is_held_for_another(&identity)) {
            state.held = None;
            self.expiry.set(0);
        }
        let failed_before = turn.failed(error.clone());
        let (provider, cause) = (self.provider.name(), error.to_string());
        let usable = state.usable(now).is_some();
        let told = failed_before && (state.told_unusable || usable);
        if told {
            tracing::debug!(provider, cause, "Credentials still cannot be renewed");
        } else if usable {
            let what = if state.held.as_ref().is_some_and(Held::ends) {
                "Credentials cannot be renewed; the present ones are used until they expire"
            } else {
                "Credentials cannot be read again; the present ones stay in use"
            };
            tracing::warn!(provider, cause, "{what}");
        } else {
            tracing::error!(provider, cause, "Credentials cannot be obtained");
        }
        state.told_unusable = !usable;
    }

    fn lock(&self) -> MutexGuard<'_, CredentialCache> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CredentialCache {
    fn is_held_for_another(&self, identity: &str) -> bool {
        self.held
            .as_ref()
            .is_some_and(|held| *held.lease.identity != *identity)
    }

    fn usable(&self, now: Duration) -> Option<Lease> {
        self.held
            .as_ref()
            .filter(|held| held.is_usable(now))
            .map(|held| held.lease.clone())
    }
}

#[cfg(test)]
mod tests;
