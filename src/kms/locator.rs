//! Where KMS is: what the operator says, else what the environment or the metadata service says of the region.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use kms_agent_core::source::SourceErrorKind;
use kms_agent_core::{Clock, SourceError};

use crate::endpoint::Endpoint;
use crate::environment::Environment;
use crate::metadata::{self, Metadata};
use crate::pace::Pace;
use crate::region::Region;
use crate::settings::KmsSettings;

const REGION_VARIABLE: &str = "ALIBABA_CLOUD_REGION_ID";
const REGION_PATH: &str = "/latest/meta-data/region-id";

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
    /// Held while somebody asks, so that the others wait for the same answer.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Learnt {
    region: Option<Region>,
    failure: Option<(Pace, String)>,
    /// How often the service was asked, to the end.
    asked: u64,
}

impl Locator {
    pub(crate) fn new(
        settings: &KmsSettings,
        environment: &Environment,
        metadata: Option<Metadata>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let named = environment.given(REGION_VARIABLE);
        let from_environment = named.and_then(|text| Region::parse(text).ok());
        let problem = (named.is_some() && from_environment.is_none()).then_some(
            "ALIBABA_CLOUD_REGION_ID is set, but holds no region id such as cn-hangzhou",
        );
        let from_name = settings.endpoint.as_ref().and_then(Endpoint::region);
        Self {
            endpoint: settings.endpoint.clone(),
            region: settings.region.clone().or(from_environment).or(from_name),
            problem,
            metadata,
            clock,
            remembered: OnceLock::new(),
            learnt: Mutex::default(),
            asking: tokio::sync::Mutex::new(()),
        }
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
                SourceError::new(
                    SourceErrorKind::RegionUnknown,
                    format!("the region is not known; set KMS.Region ({why})"),
                )
            })
    }

    /// Finds the endpoint out, however long it takes.
    pub(crate) async fn maintain(&self) {
        while self.known_endpoint().is_none() && self.may_ask() {
            let _ = self.endpoint().await;
            let retry_at = self
                .lock()
                .failure
                .as_ref()
                .map(|(pace, _)| pace.retry_at());
            if let Some(retry_at) = retry_at {
                self.clock.sleep_until(retry_at).await;
            }
        }
    }

    fn known_region(&self) -> Option<Region> {
        self.region.clone().or_else(|| self.lock().region.clone())
    }

    fn may_ask(&self) -> bool {
        self.metadata.is_some() && self.problem.is_none()
    }

    async fn ask(&self) -> Result<Region, String> {
        if let Some(problem) = self.problem {
            return Err(problem.to_owned());
        }
        let Some(metadata) = &self.metadata else {
            return Err(
                "the metadata service is disabled by ALIBABA_CLOUD_ECS_METADATA_DISABLED"
                    .to_owned(),
            );
        };
        let asked = self.lock().asked;
        let _turn = self.asking.lock().await;
        if let Some(outcome) = self.recall(asked) {
            return outcome;
        }
        let outcome = ask(metadata).await;
        let mut learnt = self.lock();
        learnt.asked += 1;
        match &outcome {
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
                    self.warn(why);
                }
                let before = learnt.failure.take();
                let pace = Pace::failed(before.as_ref().map(|(pace, _)| pace), self.clock.boot());
                learnt.failure = Some((pace, why.clone()));
            }
        }
        outcome
    }

    fn warn(&self, cause: &str) {
        let text = if self.remembered.get().is_some() {
            "the region is not known, so the one that the store was last used with counts; set KMS.Region"
        } else {
            "the region is not known; set KMS.Region, unless this is an ECS instance"
        };
        tracing::warn!(cause, "{text}");
    }

    /// What somebody else has learnt meanwhile, or a failure too recent to try again.
    fn recall(&self, asked: u64) -> Option<Result<Region, String>> {
        let learnt = self.lock();
        if let Some(region) = &learnt.region {
            return Some(Ok(region.clone()));
        }
        let (pace, why) = learnt.failure.as_ref()?;
        (learnt.asked != asked || self.clock.boot() < pace.retry_at()).then(|| Err(why.clone()))
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
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::{HttpError, HttpErrorKind, HttpSend, Method};
    use crate::testing::{ManualClock, Outcome, Script, answer};

    const BASE: &str = "http://100.100.100.200/latest/";

    struct Case {
        region: Option<&'static str>,
        endpoint: Option<&'static str>,
        variable: Option<&'static str>,
    }

    fn locator(case: &Case, script: Option<&Arc<Script>>, clock: &Arc<ManualClock>) -> Locator {
        let settings = KmsSettings {
            region: case
                .region
                .map(|text| Region::parse(text).expect("a region")),
            endpoint: case
                .endpoint
                .map(|text| Endpoint::parse(text).expect("an endpoint")),
            ..KmsSettings::default()
        };
        let environment = case
            .variable
            .map(|value| (REGION_VARIABLE, value))
            .into_iter()
            .collect();
        let metadata = script.map(|script| {
            let http: Arc<dyn HttpSend> = Arc::clone(script) as _;
            Metadata::new(http, Endpoint::metadata(), true)
        });
        Locator::new(&settings, &environment, metadata, Arc::clone(clock) as _)
    }

    fn lost() -> Outcome {
        Err(HttpError::new(HttpErrorKind::Connect, "timed out"))
    }

    #[tokio::test]
    async fn what_is_configured_counts_before_the_environment_and_nobody_is_asked() {
        let clock = ManualClock::new();
        for (region, endpoint, variable, host, region_known) in [
            (
                Some("cn-a"),
                None,
                Some("cn-b"),
                "kms.cn-a.aliyuncs.com",
                Some("cn-a"),
            ),
            (
                None,
                None,
                Some("cn-b"),
                "kms.cn-b.aliyuncs.com",
                Some("cn-b"),
            ),
            (
                None,
                Some("kms-vpc.cn-c.aliyuncs.com"),
                None,
                "kms-vpc.cn-c.aliyuncs.com",
                Some("cn-c"),
            ),
            (
                Some("cn-a"),
                Some("kms-vpc.cn-c.aliyuncs.com"),
                None,
                "kms-vpc.cn-c.aliyuncs.com",
                Some("cn-a"),
            ),
            (
                None,
                Some("gateway.example:8443"),
                None,
                "gateway.example:8443",
                None,
            ),
        ] {
            let case = Case {
                region,
                endpoint,
                variable,
            };
            let script = Script::new();
            let locator = locator(&case, Some(&script), &clock);
            locator.maintain().await;
            let found = locator.endpoint().await.expect("an endpoint");
            assert_eq!(found.authority(), host);
            assert_eq!(locator.known_endpoint(), Some(found));
            assert_eq!(locator.region().as_deref(), region_known);
        }
    }

    #[tokio::test]
    async fn the_metadata_service_is_asked_once_and_remembered() {
        let clock = ManualClock::new();
        let script = Script::new()
            .expect(Method::Put, BASE, answer(200, "t0k"))
            .expect(Method::Get, BASE, answer(200, "cn-hangzhou\n"));
        let case = Case {
            region: None,
            endpoint: None,
            variable: None,
        };
        let locator = locator(&case, Some(&script), &clock);
        assert_eq!(locator.known_endpoint(), None);
        for _ in 0..3 {
            let endpoint = locator.endpoint().await.expect("an endpoint");
            assert_eq!(endpoint.authority(), "kms.cn-hangzhou.aliyuncs.com");
        }
        assert_eq!(locator.region().as_deref(), Some("cn-hangzhou"));
    }

    #[tokio::test]
    async fn a_failure_names_the_key_and_holds_for_a_moment() {
        let clock = ManualClock::new();
        let script = Script::new()
            .expect(Method::Put, BASE, lost())
            .expect(Method::Get, BASE, lost())
            .expect(Method::Put, BASE, lost())
            .expect(Method::Get, BASE, answer(200, "cn-hangzhou"));
        let case = Case {
            region: None,
            endpoint: None,
            variable: None,
        };
        let locator = locator(&case, Some(&script), &clock);
        for _ in 0..3 {
            let error = locator.endpoint().await.expect_err("no region");
            assert_eq!(error.kind(), SourceErrorKind::RegionUnknown);
            assert!(error.report().contains("KMS.Region"), "{}", error.report());
        }
        assert_eq!(script.calls(), 2);
        clock.advance(Duration::from_secs(1));
        assert!(locator.endpoint().await.is_ok());
    }

    #[tokio::test]
    async fn what_cannot_be_a_region_never_becomes_a_host() {
        let clock = ManualClock::new();
        let case = |variable| Case {
            region: None,
            endpoint: None,
            variable,
        };
        let script = Script::new()
            .expect(Method::Put, BASE, answer(200, "t0k"))
            .expect(Method::Get, BASE, answer(200, "evil.example/"));
        assert!(
            locator(&case(None), Some(&script), &clock)
                .endpoint()
                .await
                .is_err()
        );
        // A bad variable is reported rather than passed over.
        let error = locator(&case(Some("Hangzhou")), Some(&Script::new()), &clock)
            .endpoint()
            .await
            .expect_err("no region");
        assert!(error.report().contains(REGION_VARIABLE));
        let error = locator(&case(None), None, &clock)
            .endpoint()
            .await
            .expect_err("no region");
        assert!(
            error
                .report()
                .contains("ALIBABA_CLOUD_ECS_METADATA_DISABLED")
        );
    }

    #[tokio::test]
    async fn the_region_of_an_earlier_life_counts_while_nobody_tells_a_better_one() {
        let clock = ManualClock::new();
        let script = Script::new()
            .expect(Method::Put, BASE, answer(404, ""))
            .expect(Method::Get, BASE, answer(404, ""))
            .expect(Method::Put, BASE, answer(404, ""))
            .expect(Method::Get, BASE, answer(200, "cn-shanghai"));
        let case = Case {
            region: None,
            endpoint: None,
            variable: None,
        };
        let locator = locator(&case, Some(&script), &clock);
        locator.remember("127.0.0.1:9000");
        assert_eq!(locator.region(), None);
        locator.remember("kms-vpc.cn-beijing.aliyuncs.com");
        assert_eq!(locator.region().as_deref(), Some("cn-beijing"));
        let endpoint = locator
            .endpoint()
            .await
            .map(|endpoint| endpoint.authority());
        assert_eq!(
            endpoint.ok().as_deref(),
            Some("kms.cn-beijing.aliyuncs.com")
        );
        assert_eq!(locator.known_endpoint(), None, "it is a stopgap");
        clock.advance(Duration::from_secs(1));
        let endpoint = locator
            .endpoint()
            .await
            .map(|endpoint| endpoint.authority());
        assert_eq!(
            endpoint.ok().as_deref(),
            Some("kms.cn-shanghai.aliyuncs.com")
        );
        assert_eq!(locator.region().as_deref(), Some("cn-shanghai"));
    }
}
