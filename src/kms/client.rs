//! The fetcher itself.

mod attempt;
mod batch;
mod budget;
mod call;
mod data_key;
mod http_clients;
mod secret;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kms_agent_core::secret::Fetched;
use kms_agent_core::source::{
    BatchItem, BatchOutcome, BatchRequest, CredentialState, FetchRequest, KmsRefusal,
    OVERALL_TIMEOUT, SendGate, SourceErrorKind,
};
use kms_agent_core::{Clock, Scope, SecretSource, SourceError};

use self::batch::BatchGetSecretValue;
use self::budget::Budget;
use self::call::{Answered, CallTerms};
pub(crate) use self::http_clients::HttpClients;
use self::secret::GetSecretValue;
use crate::credential::{CachedCredential, ProviderContext, Sts, choose, uri_is_secure};
use crate::gateway::error;
use crate::gateway::skew::{ServerClock, Skew};
use crate::gateway::wire::MAX_ANSWER_BYTES;
use crate::host::Environment;
use crate::host::file::LOOK_EVERY;
use crate::http::{HttpError, HttpRequest, HttpResponse, HttpSend};
use crate::location::endpoint::Endpoint;
use crate::location::{Locator, Metadata};
use crate::metric::KmsMetrics;
use crate::scope::PublishedScope;
use crate::settings::Settings;

/// A [`SecretSource`] that asks KMS.
pub struct KmsSource {
    settings: Settings,
    clock: Arc<dyn Clock>,
    /// The way to KMS.
    http: Arc<dyn HttpSend>,
    /// Knows where KMS is.
    locator: Locator,
    /// Knows who the agent is.
    credentials: CachedCredential,
    /// Says when a call may be made.
    budget: Budget,
    metrics: KmsMetrics,
    /// The time that requests to KMS are signed with.
    kms_clock: ServerClock,
    /// Whether the wrong clock was logged.
    clock_is_told: AtomicBool,
    /// KMS has shown a date that agrees with the wall clock.
    clock_is_confirmed: AtomicBool,
    /// The scope of reads, set by the locator and the credentials.
    scope: Arc<PublishedScope>,
}

impl KmsSource {
    /// Puts the fetcher together. Nothing is asked or opened yet.
    pub fn new(
        settings: Settings,
        environment: &Environment,
        clock: Arc<dyn Clock>,
        metrics: KmsMetrics,
    ) -> Arc<Self> {
        let clients = HttpClients::new(&settings, uri_is_secure(environment), environment, &clock);
        Self::with_clients(settings, environment, clock, metrics, clients)
    }

    fn with_clients(
        settings: Settings,
        environment: &Environment,
        clock: Arc<dyn Clock>,
        metrics: KmsMetrics,
        clients: HttpClients,
    ) -> Arc<Self> {
        let metadata = (!environment.flag("ALIBABA_CLOUD_ECS_METADATA_DISABLED")).then(|| {
            let endpoint = settings.credentials.metadata_endpoint.clone();
            Metadata::new(
                clients.metadata,
                endpoint.unwrap_or_else(Endpoint::metadata),
                !environment.flag("ALIBABA_CLOUD_IMDSV1_DISABLED"),
            )
        });
        let context = ProviderContext {
            environment: environment.clone(),
            sts: Sts {
                http: clients.sts,
                endpoint: settings.credentials.sts_endpoint.clone(),
                timeout: settings.kms.request_timeout,
                clock: Arc::clone(&clock),
                server_clock: Arc::default(),
            },
            uri: clients.uri,
            metadata: metadata.clone(),
        };
        let provider = choose(settings.credentials.provider, &context);
        let expiry = metrics.expiry.clone();
        let scope = Arc::<PublishedScope>::default();
        Arc::new(Self {
            http: clients.kms,
            locator: Locator::new(
                settings.kms.endpoint.clone(),
                settings.kms.region.clone(),
                environment,
                metadata,
                Arc::clone(&clock),
                Arc::clone(&scope),
            ),
            credentials: CachedCredential::new(
                provider,
                Arc::clone(&clock),
                expiry,
                Arc::clone(&scope),
            ),
            budget: Budget::new(settings.kms.max_requests_per_second, Arc::clone(&clock)),
            settings,
            clock,
            metrics,
            kms_clock: ServerClock::default(),
            clock_is_told: AtomicBool::new(false),
            clock_is_confirmed: AtomicBool::new(false),
            scope,
        })
    }

    /// Logs, once, that this machine's clock is wrong. Readers do not notice.
    fn log_skew(&self, skew: Skew) {
        if !self.clock_is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                kms.ahead_seconds = skew.ahead_millis() / 1000,
                "This machine's clock is not that of KMS; requests are signed with the time of KMS. Set the clock, and see that it stays so (NTP)"
            );
        }
    }

    /// Logs that this machine's clock is right again.
    fn log_agreement(&self) {
        if self.clock_is_told.swap(false, Ordering::Relaxed) {
            tracing::info!("This machine's clock agrees with that of KMS again");
        }
    }

    /// The endpoint of KMS, from the metadata service if nothing else names the region.
    pub(crate) async fn endpoint(&self) -> Result<Endpoint, SourceError> {
        self.locator.endpoint().await
    }

    /// Gets credentials, or says why there are none and what to do.
    pub(crate) async fn authenticate(&self) -> Result<(), String> {
        match self.credentials.current().await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The part of a file that holds the credentials, if a file does.
    pub(crate) fn credential_place(&self) -> Option<String> {
        self.credentials.place()
    }

    /// Sends a request that is not signed, by the way that signed ones take.
    pub(crate) async fn knock(&self, endpoint: &Endpoint) -> Result<HttpResponse, HttpError> {
        let url = format!("{}/", endpoint.origin());
        let timeout = self.settings.kms.request_timeout;
        self.http
            .send(HttpRequest::get(url, timeout, MAX_ANSWER_BYTES))
            .await
    }

    /// Takes the scope that the store was last used in, for a region while no other is known.
    pub fn resume(&self, scope: &Scope) {
        self.locator.remember(&scope.endpoint);
    }

    /// Whether the region is that of the previous process, since no other is known.
    pub(crate) fn goes_by_the_store(&self) -> bool {
        self.locator.known_endpoint().is_none() && self.locator.region().is_some()
    }

    /// Does what must happen without readers, for as long as it is polled: finds out the region, gets
    /// credentials, renews them ahead of their expiry, and follows `CaFile`. What keeps requests from being
    /// sent at all is logged at once and not only when a reader comes.
    pub async fn maintain(&self) {
        tokio::join!(
            self.keep_prepared(),
            self.locator.maintain(),
            self.credentials.maintain()
        );
    }

    /// Sees to it that requests can be sent, by today's `CaFile`.
    async fn keep_prepared(&self) {
        let mut able = false;
        let mut told = None;
        loop {
            match self.http.prepare().await {
                Ok(reloaded) => {
                    if reloaded && able {
                        tracing::info!("KMS.CaFile reloaded");
                    }
                    (able, told) = (true, None);
                }
                Err(error) => {
                    let cause = error.to_string();
                    if told.as_ref() == Some(&cause) {
                        // Said already.
                    } else if able {
                        tracing::error!(
                            cause,
                            "KMS.CaFile could not be reloaded; the previous CAs stay in use"
                        );
                    } else {
                        tracing::error!(cause, "Requests to KMS cannot be sent");
                    }
                    told = Some(cause);
                }
            }
            if self.settings.kms.ca_file.is_none() {
                return;
            }
            self.clock.sleep_until(self.clock.boot() + LOOK_EVERY).await;
        }
    }
}

#[async_trait]
impl SecretSource for KmsSource {
    fn scope(&self) -> Option<Arc<Scope>> {
        self.scope.load()
    }

    async fn learn_scope(&self, arrived_at: Duration) {
        let learn = async {
            // The fetch that follows reports a failure.
            let _ = self.locator.endpoint().await;
            let _ = self.credentials.current().await;
        };
        tokio::select! {
            () = learn => {}
            () = self.clock.sleep_until(arrived_at + OVERALL_TIMEOUT) => {}
        }
    }

    fn region(&self) -> Option<Arc<str>> {
        self.locator.region()
    }

    fn credentials(&self) -> CredentialState {
        self.credentials.state()
    }

    fn hindrance(&self) -> Option<SourceErrorKind> {
        self.locator
            .is_lost()
            .then_some(SourceErrorKind::RegionUnknown)
    }

    fn confirms_clock(&self) -> bool {
        self.clock_is_confirmed.load(Ordering::Relaxed)
    }

    async fn fetch(&self, request: FetchRequest<'_>) -> Result<Fetched, SourceError> {
        let terms = CallTerms {
            purpose: request.purpose,
            arrived_at: request.arrived_at,
            gate: request.gate,
        };
        let call = GetSecretValue {
            secret: request.secret,
            extended_config: request.extended_config,
        };
        let answered = self.call(&call, terms).await?;
        Ok(Fetched {
            secret: answered.answer.secret,
            scope: answered.scope,
            rotates_at: answered.answer.rotates_at,
        })
    }

    async fn fetch_batch(
        &self,
        request: BatchRequest<'_>,
    ) -> Result<Vec<BatchOutcome>, SourceError> {
        let terms = CallTerms {
            purpose: request.purpose,
            arrived_at: request.arrived_at,
            gate: &SendGate::default(),
        };
        let call = BatchGetSecretValue::new(request.secrets);
        let Answered { mut answer, scope } = self.call(&call, terms).await?;
        let outcome = |item: &BatchItem| {
            if let Some(found) = answer.take_value(&item.secret) {
                return Some(Ok(Fetched {
                    secret: found.secret,
                    scope: Arc::clone(&scope),
                    rotates_at: found.rotates_at,
                }));
            }
            let error = answer.error(&item.secret)?;
            Some(Err(error::from_entry(KmsRefusal {
                status: error.status,
                code: error.code.clone(),
                message: error.message.clone(),
                request_id: answer.request_id.clone(),
            })))
        };
        Ok(request.secrets.iter().map(outcome).collect())
    }
}

impl fmt::Debug for KmsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KmsSource")
            .field("settings", &self.settings)
            .field("locator", &self.locator)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
