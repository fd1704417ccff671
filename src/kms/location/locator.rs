//! Where KMS is: what the operator says, else what the environment or the metadata service says of the region.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use kms_agent_core::source::SourceErrorKind;
use kms_agent_core::{Clock, Retry, SourceError};

use crate::gateway::retry::RENEWAL;
use crate::host::Environment;
use crate::location::endpoint::Endpoint;
use crate::location::metadata::{self, Metadata};
use crate::location::region::Region;
use crate::scope::PublishedScope;
use crate::settings::KmsSettings;

const REGION_VARIABLE: &str = "ALIBABA_CLOUD_REGION_ID";
const REGION_PATH: &str = "/latest/meta-data/region-id";

const UNKNOWN: &str = "the region is not known; set KMS.Region";

/// Knows the endpoint, or finds it out when it is first needed and remembers it.
#[derive(Debug)]
pub(crate) struct Locator {
    /// As configured.
    endpoint: Option<Endpoint>,
    /// As configured, as the environment says, or as the endpoint's name tells.
    region: Option<Region>,
    /// What is wrong with the region that the environment names.
    problem: Option<&'static str>,
    /// Whom to ask; nobody where that is forbidden.
    metadata: Option<Metadata>,
    clock: Arc<dyn Clock>,
    /// Where KMS was in an earlier life, for as long as nobody tells better.
    remembered: OnceLock<Region>,
    learnt: Mutex<Learnt>,
    /// Told of the endpoint as soon as it is known.
    scope: Arc<PublishedScope>,
    /// Held while somebody asks, so that the others wait for the same answer.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Learnt {
    region: Option<Region>,
    failure: Option<(Retry, String)>,
    /// How often the service was asked, to the end.
    asked: u64,
}

impl Locator {
    pub(crate) fn new(
        settings: &KmsSettings,
        environment: &Environment,
        metadata: Option<Metadata>,
        clock: Arc<dyn Clock>,
        scope: Arc<PublishedScope>,
    ) -> Self {
        let named = environment.given(REGION_VARIABLE);
        let from_environment = named.and_then(|text| Region::parse(text).ok());
        let problem = (named.is_some() && from_environment.is_none()).then_some(
            "ALIBABA_CLOUD_REGION_ID is set, but holds no region id such as cn-hangzhou",
        );
        let from_name = settings.endpoint.as_ref().and_then(Endpoint::region);
        let locator = Self {
            endpoint: settings.endpoint.clone(),
            region: settings.region.clone().or(from_environment).or(from_name),
            problem,
            metadata,
            clock,
            remembered: OnceLock::new(),
            learnt: Mutex::default(),
            asking: tokio::sync::Mutex::new(()),
            scope,
        };
        locator.publish();
        locator
    }

    /// Says where KMS was in an earlier life, as its endpoint was written.
    pub(crate) fn remember(&self, authority: &str) {
        let endpoint = Endpoint::parse(authority).ok();
        if let Some(region) = endpoint.and_then(|endpoint| endpoint.region()) {
            // Only the first word counts.
            let _ = self.remembered.set(region);
        }
    }

    /// The region, so far as it is known.
    pub(crate) fn region(&self) -> Option<Arc<str>> {
        let region = self
            .known_region()
            .or_else(|| self.remembered.get().cloned());
        region.map(|region| region.shared())
    }

    /// The endpoint, so far as it is known.
    pub(crate) fn known_endpoint(&self) -> Option<Endpoint> {
        self.endpoint
            .clone()
            .or_else(|| Some(Endpoint::kms(&self.known_region()?)))
    }

    /// The endpoint, asking the metadata service where nothing else tells; while that fails, the one of the
    /// region remembered. A failure holds for a moment, so that readers do not queue up for the next one.
    pub(crate) async fn endpoint(&self) -> Result<Endpoint, SourceError> {
        if let Some(endpoint) = self.known_endpoint() {
            return Ok(endpoint);
        }
        self.ask()
            .await
            .or_else(|why| self.remembered.get().cloned().ok_or(why))
            .map(|region| Endpoint::kms(&region))
            .map_err(|why| {
                SourceError::new(SourceErrorKind::RegionUnknown, format!("{UNKNOWN} ({why})"))
            })
    }

    /// Whether nobody tells where KMS is, as far as has been found out.
    pub(crate) fn is_lost(&self) -> bool {
        self.known_endpoint().is_none()
            && self.remembered.get().is_none()
            && (self.barred().is_some() || self.lock().failure.is_some())
    }

    /// Finds the endpoint out, however long it takes. That nobody can tell it is said at once.
    pub(crate) async fn maintain(&self) {
        if self.known_endpoint().is_none()
            && let Some(why) = self.barred()
        {
            self.complain(why);
            return;
        }
        while self.known_endpoint().is_none() {
            let _ = self.endpoint().await;
            let retry_at = self
                .lock()
                .failure
                .as_ref()
                .map(|(retry, _)| retry.due_at());
            if let Some(retry_at) = retry_at {
                self.clock.sleep_until(retry_at).await;
            }
        }
    }

    fn known_region(&self) -> Option<Region> {
        self.region.clone().or_else(|| self.lock().region.clone())
    }

    /// Why nobody may be asked.
    fn barred(&self) -> Option<&'static str> {
        let disabled = self
            .metadata
            .is_none()
            .then_some("the metadata service is disabled by ALIBABA_CLOUD_ECS_METADATA_DISABLED");
        self.problem.or(disabled)
    }

    async fn ask(&self) -> Result<Region, String> {
        let metadata = match (self.barred(), &self.metadata) {
            (None, Some(metadata)) => metadata,
            (why, _) => return Err(why.unwrap_or_default().to_owned()),
        };
        let asked = self.lock().asked;
        let _turn = self.asking.lock().await;
        if let Some(outcome) = self.recall(asked) {
            return outcome;
        }
        let outcome = ask(metadata).await;
        self.note(&outcome);
        self.publish();
        outcome
    }

    fn note(&self, outcome: &Result<Region, String>) {
        let mut learnt = self.lock();
        learnt.asked += 1;
        match outcome {
            Ok(region) => {
                tracing::info!(
                    region = region.as_str(),
                    "learnt the region from the metadata service"
                );
                learnt.region = Some(region.clone());
                learnt.failure = None;
            }
            Err(why) => {
                if learnt.failure.is_none() {
                    self.complain(why);
                }
                let before = learnt.failure.take();
                let retry =
                    RENEWAL.failed(before.as_ref().map(|(retry, _)| retry), self.clock.boot());
                learnt.failure = Some((retry, why.clone()));
            }
        }
    }

    fn publish(&self) {
        if let Some(endpoint) = self.known_endpoint() {
            self.scope.set_endpoint(&endpoint.authority());
        }
    }

    fn complain(&self, cause: &str) {
        if let Some(region) = self.remembered.get() {
            tracing::warn!(
                cause,
                region = region.as_str(),
                "nobody tells the region, so the one that the store was last used with counts; set KMS.Region"
            );
        } else {
            // While it can be asked for, it may come yet.
            let must_act = self.barred().is_some();
            if must_act {
                tracing::error!(cause, "{UNKNOWN}");
            } else {
                tracing::warn!(cause, "{UNKNOWN}");
            }
        }
    }

    /// What somebody else has learnt meanwhile, or a failure too recent to try again.
    fn recall(&self, asked: u64) -> Option<Result<Region, String>> {
        let learnt = self.lock();
        if let Some(region) = &learnt.region {
            return Some(Ok(region.clone()));
        }
        let (retry, why) = learnt.failure.as_ref()?;
        (learnt.asked != asked || self.clock.boot() < retry.due_at()).then(|| Err(why.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Learnt> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(metadata: &Metadata) -> Result<Region, String> {
    let about = |what: &dyn std::fmt::Display| {
        format!(
            "the metadata service at {} was asked: {what}",
            metadata.authority()
        )
    };
    let session = metadata.open().await.map_err(|error| about(&error))?;
    let response = session
        .get(REGION_PATH)
        .await
        .map_err(|error| about(&error))?;
    metadata::text(&response)
        .and_then(|text| Region::parse(&text).ok())
        .ok_or_else(|| about(&"its answer is no region id"))
}

#[cfg(test)]
mod tests;
