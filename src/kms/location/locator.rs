//! Location of KMS: as configured, else by the region that the environment or the metadata service names.

use std::sync::{Arc, OnceLock};

use kms_agent_core::source::SourceErrorKind;
use kms_agent_core::{Clock, SourceError};

use crate::gateway::renewal::Renewal;
use crate::host::Environment;
use crate::location::endpoint::Endpoint;
use crate::location::metadata::{self, Metadata};
use crate::location::region::Region;
use crate::scope::PublishedScope;

const REGION_VARIABLE: &str = "ALIBABA_CLOUD_REGION_ID";
const REGION_PATH: &str = "/latest/meta-data/region-id";

const UNKNOWN: &str = "the region is not known; set KMS.Region";

/// Knows the endpoint, or finds it out when it is first needed and remembers it.
#[derive(Debug)]
pub(crate) struct Locator {
    /// As configured.
    endpoint: Option<Endpoint>,
    /// From the configuration, the environment or the endpoint's name.
    region: Option<Region>,
    /// Fault of the region that the environment names.
    problem: Option<&'static str>,
    /// The metadata service; `None` where the environment disables it.
    metadata: Option<Metadata>,
    clock: Arc<dyn Clock>,
    /// Region of the previous process, used while no other is known.
    remembered: OnceLock<Region>,
    /// From the metadata service.
    learnt: OnceLock<Region>,
    /// Questions to the metadata service.
    renewal: Renewal<String>,
    /// Published scope, which gets the endpoint as soon as it is known.
    scope: Arc<PublishedScope>,
}

impl Locator {
    /// `endpoint` and `region` are those that the operator configures.
    pub(crate) fn new(
        endpoint: Option<Endpoint>,
        region: Option<Region>,
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
        let from_name = endpoint.as_ref().and_then(Endpoint::region);
        let locator = Self {
            endpoint,
            region: region.or(from_environment).or(from_name),
            problem,
            metadata,
            renewal: Renewal::new(Arc::clone(&clock)),
            clock,
            remembered: OnceLock::new(),
            learnt: OnceLock::new(),
            scope,
        };
        locator.publish();
        locator
    }

    /// Takes the endpoint of the previous process, whose region applies while no other is known.
    pub(crate) fn remember(&self, authority: &str) {
        let endpoint = Endpoint::parse(authority).ok();
        if let Some(region) = endpoint.and_then(|endpoint| endpoint.region()) {
            // Only the first word counts.
            let _ = self.remembered.set(region);
        }
    }

    /// The region, if it is known.
    pub(crate) fn region(&self) -> Option<Arc<str>> {
        let region = self
            .known_region()
            .or_else(|| self.remembered.get().cloned());
        region.map(|region| region.shared())
    }

    /// The endpoint, if it is known.
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

    /// Whether the last try to find the endpoint failed.
    pub(crate) fn is_lost(&self) -> bool {
        self.known_endpoint().is_none()
            && self.remembered.get().is_none()
            && (self.barred().is_some() || self.renewal.failure().is_some())
    }

    /// Finds the endpoint, however long it takes. Logs at once if no service may be asked.
    pub(crate) async fn maintain(&self) {
        if self.known_endpoint().is_none()
            && let Some(why) = self.barred()
        {
            self.complain(why);
            return;
        }
        while self.known_endpoint().is_none() {
            let _ = self.endpoint().await;
            if let Some(retry) = self.renewal.retry() {
                self.clock.sleep_until(retry.due_at()).await;
            }
        }
    }

    fn known_region(&self) -> Option<Region> {
        self.region.as_ref().or(self.learnt.get()).cloned()
    }

    /// The reason why the metadata service may not be asked.
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
        let turn = self.renewal.turn().await;
        if let Some(region) = self.learnt.get() {
            return Ok(region.clone());
        }
        if let Some(why) = turn.failure() {
            return Err(why);
        }
        let outcome = ask(metadata).await;
        match &outcome {
            Ok(region) => {
                tracing::info!(
                    region = region.as_str(),
                    "Region obtained from the metadata service"
                );
                // A turn asks once.
                let _ = self.learnt.set(region.clone());
                turn.succeeded();
                self.publish();
            }
            Err(why) => {
                if !turn.failed(why.clone()) {
                    self.complain(why);
                }
            }
        }
        outcome
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
                "Neither the configuration nor the metadata service names a region, so that of the store's last use applies; set KMS.Region"
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
        .ok_or_else(|| about(&"its answer is not a region id"))
}

#[cfg(test)]
mod tests;
