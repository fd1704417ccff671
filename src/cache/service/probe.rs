//! Whether KMS can be asked at all, for an agent that no reader has asked for anything yet.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use kms_agent_core::secret::{SecretId, SecretRef, VersionSelector};
use kms_agent_core::source::{FetchRequest, PROBE_SECRET, Purpose, SendGate, SourceError};
use kms_agent_core::{Backoff, Retry};
use tokio::sync::watch;

use super::{SecretService, listing::SCAN_PAGE};
use crate::policy::Freshness;

const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15));

/// Lifetime of a yes of [`SecretService::holds_servable`].
const MEMORY_OF_YES: Duration = Duration::from_secs(1);

/// Lifetime of a no. The next read may change it, and a probe must not deny an entry that readers get.
const MEMORY_OF_NO: Duration = Duration::from_millis(50);

/// Limit of listing the entries of a store.
const PATIENCE_WITH_STORE: Duration = Duration::from_millis(500);

/// Probes of the endpoint, one at a time.
#[derive(Debug, Default)]
pub(super) struct Probing {
    /// Its sender lives as long as the probe.
    running: Option<watch::Receiver<()>>,
    /// Failures in a row; the next probe may begin when their back-off ends.
    retry: Option<Retry>,
}

impl SecretService {
    /// Whether KMS can answer reads, as far as is known: it has answered, accepts the agent's identity, and the
    /// agent has credentials and a region.
    pub fn reaches_kms(&self) -> bool {
        let upstream = self.lock_upstream();
        upstream.reached
            && !upstream.identity_refused
            && self.source.load().hindrance().is_none()
            && self.credentials().usable
    }

    /// Asks KMS whether it knows the agent, and waits for the answer, for `patience` at most. Does nothing while the
    /// outcome is certain or the last failure is recent.
    pub async fn probe(self: &Arc<Self>, patience: Duration) {
        let credentials = self.credentials();
        let hopeless = !credentials.usable && credentials.renewal_fails;
        if hopeless || self.source.load().hindrance().is_some() {
            return;
        }
        let Some(mut done) = self.start_probe() else {
            return;
        };
        tokio::select! {
            // It ends with an error: the probe drops the sender.
            _ = done.changed() => {}
            () = self.timeline.sleep(patience) => {}
        }
    }

    /// The probe under way, or a new one where it is time for one.
    fn start_probe(self: &Arc<Self>) -> Option<watch::Receiver<()>> {
        let mut probing = self.lock_probing();
        if let Some(running) = &probing.running
            && running.has_changed().is_ok()
        {
            return Some(running.clone());
        }
        if probing
            .retry
            .as_ref()
            .is_some_and(|retry| self.boot() < retry.due_at())
        {
            return None;
        }
        let (alive, running) = watch::channel(());
        probing.running = Some(running.clone());
        // One that panics counts as a failure.
        probing.note_failure(self.boot());
        let service = Arc::clone(self);
        tokio::spawn(async move {
            service.run_probe().await;
            drop(alive);
        });
        Some(running)
    }

    /// Forgets how probes went, for a source that was not probed yet.
    pub(super) fn forget_probes(&self) {
        *self.lock_probing() = Probing::default();
    }

    async fn run_probe(&self) {
        let Ok(id) = SecretId::parse(PROBE_SECRET) else {
            return;
        };
        let secret = SecretRef {
            id,
            selector: VersionSelector::CURRENT,
        };
        let source = Arc::clone(&self.source.load());
        let request = FetchRequest {
            secret: &secret,
            purpose: Purpose::Read,
            arrived_at: self.boot(),
            gate: &SendGate::default(),
            extended_config: false,
        };
        let result = source.fetch(request).await;
        if !Arc::ptr_eq(&source, &self.source.load()) {
            // A reload has put another in its place.
            return;
        }
        let mut probing = self.lock_probing();
        match result {
            Err(error) if error.kind().is_transient() => {
                log_failure(&error, probing.retry.as_ref().is_some_and(Retry::is_first));
                self.note_failure(&error);
            }
            _ => {
                *probing = Probing::default();
                self.note_answer();
            }
        }
    }

    /// Whether an entry is held that may be answered while KMS cannot be asked.
    pub async fn holds_servable(&self) -> bool {
        // Held while entries are looked at, so that this happens once at a time.
        let mut last = self.servable.lock().await;
        let now = self.boot();
        if let Some((at, servable)) = *last
            && now
                < at + if servable {
                    MEMORY_OF_YES
                } else {
                    MEMORY_OF_NO
                }
        {
            return servable;
        }
        let servable = tokio::select! {
            biased;
            found = self.find_servable() => found,
            // A store that is slow to list its entries may still answer reads.
            () = self.timeline.sleep(PATIENCE_WITH_STORE) => true,
        };
        *last = Some((self.boot(), servable));
        servable
    }

    async fn find_servable(&self) -> bool {
        let Some(scope) = self.scope() else {
            return false;
        };
        let policies = self.policy();
        let mut from = None;
        loop {
            let Ok(page) = self.backend.scan(from, SCAN_PAGE).await else {
                return false;
            };
            let now = self.timeline.now();
            let servable = page.items.iter().any(|item| {
                let policy = policies.of(&item.key.secret.id);
                item.key.scope == scope
                    && match self.judge(policy, &item.lifetime, now) {
                        Freshness::Fresh { .. } => true,
                        Freshness::Expired { .. } => policy.serve_stale,
                        Freshness::Dead => false,
                    }
            });
            match page.next {
                _ if servable => return true,
                Some(next) => from = Some(next),
                None => return false,
            }
            tokio::task::yield_now().await;
        }
    }

    fn lock_probing(&self) -> MutexGuard<'_, Probing> {
        self.probing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Probing {
    fn note_failure(&mut self, now: Duration) {
        self.retry = Some(BACKOFF.failed(self.retry.as_ref(), now));
    }
}

fn log_failure(error: &SourceError, is_first: bool) {
    let (code, cause) = (error.code(), error.report());
    if is_first {
        tracing::warn!(
            code,
            cause,
            "Calls to KMS fail; the agent is not ready until one succeeds"
        );
    } else {
        tracing::debug!(code, cause, "Calls to KMS still fail");
    }
}
