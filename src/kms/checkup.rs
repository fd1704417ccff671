//! Check-up of the way to KMS, for operators who set the agent up.

mod reachability;
mod remedy;

use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::source::{FetchRequest, PROBE_SECRET, Purpose, SendGate};
use kms_agent_core::{
    Clock, Scope, SecretId, SecretRef, SecretSource, SourceError, Timestamp, VersionSelector,
};
use prometheus_client::registry::Registry;

use self::reachability::Way;
use self::remedy::Shown;
use crate::client::KmsSource;
use crate::gateway::skew::Skew;
use crate::host::Environment;
use crate::location::endpoint::Endpoint;
use crate::metric::KmsMetrics;
use crate::settings::Settings;
use crate::warning::{Warning, warnings};

const RECOGNISED: &str = "the credentials are accepted";

/// Difference from which on a clock counts as wrong. KMS refuses requests that are three times as far off.
const TOLERABLE_SKEW: Duration = Duration::from_mins(5);

/// One step of a check-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A word that stays the same from version to version, such as `credentials`.
    pub step: &'static str,
    /// Outcome of the step.
    pub outcome: StepOutcome,
}

/// Outcome of a step. Texts are for a person, fit on a line and hold no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// As it should be.
    Passed(String),
    /// It works, but an operator probably means something else.
    Warned(String),
    /// The operator must act.
    Failed {
        /// Fault.
        what: String,
        /// Remedy; empty where `what` says it.
        remedy: String,
    },
    /// Not tried, because of an earlier step.
    Skipped(&'static str),
}

impl StepOutcome {
    fn failed(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Failed {
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    const fn is_failed(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

/// Goes the way that the agent would go for a secret, step by step, with the agent's own parts. Reads `secret`
/// if one is named and lets go of its value; else KMS is only asked whether it knows the credentials. `resumed` is
/// the scope that the store was last used with.
pub async fn checkup(
    settings: &Settings,
    environment: &Environment,
    clock: Arc<dyn Clock>,
    resumed: Option<&Scope>,
    secret: Option<&SecretRef>,
) -> Vec<Finding> {
    let metrics = KmsMetrics::register(&mut Registry::default());
    let made_by =
        |settings| KmsSource::new(settings, environment, Arc::clone(&clock), metrics.clone());
    let source = made_by(settings.clone());
    let classical = settings.kms.post_quantum.then(|| {
        let mut settings = settings.clone();
        settings.kms.post_quantum = false;
        made_by(settings)
    });
    if let Some(scope) = resumed {
        source.resume(scope);
    }
    let located = source.endpoint().await;
    let region = region(&source, located.as_ref());
    let credentials = credentials(&source).await;
    let known = !credentials.is_failed();
    let [name, reached, time, told] = match &located {
        Ok(endpoint) => {
            let way = Way::new(
                &source,
                settings,
                environment,
                endpoint,
                classical.as_deref(),
                &*clock,
            );
            let name = way.look_up().await;
            let (reached, skew) = if name.is_failed() {
                (StepOutcome::Skipped("its name is not known"), None)
            } else {
                way.knock().await
            };
            let told = match &reached {
                StepOutcome::Passed(_) if known => ask(&source, clock.boot(), secret).await,
                StepOutcome::Passed(_) => StepOutcome::Skipped("there are no credentials"),
                _ => StepOutcome::Skipped("KMS cannot be reached"),
            };
            let time = match &reached {
                StepOutcome::Passed(_) => judge_clock(skew),
                _ => StepOutcome::Skipped("KMS cannot be reached"),
            };
            [name, reached, time, told]
        }
        Err(_) => [(); 4].map(|()| StepOutcome::Skipped("it is not known where KMS is")),
    };
    let warned = warnings(settings, environment).into_iter();
    let warned = warned.map(|Warning { message, subject }| Finding {
        step: "environment",
        outcome: StepOutcome::Warned(format!("{message}: {subject}")),
    });
    let steps = [
        ("region", region),
        ("credentials", credentials),
        ("dns", name),
        ("endpoint", reached),
        ("clock", time),
        ("kms", told),
    ]
    .map(|(step, outcome)| Finding { step, outcome });
    warned.chain(steps).collect()
}

fn region(source: &KmsSource, located: Result<&Endpoint, &SourceError>) -> StepOutcome {
    match (located, source.region()) {
        (Err(error), _) => StepOutcome::failed(error.report(), ""),
        (Ok(_), Some(region)) if source.goes_by_the_store() => StepOutcome::Passed(format!(
            "{region}, as the store was last used; better set KMS.Region"
        )),
        (Ok(_), Some(region)) => StepOutcome::Passed(region.to_string()),
        (Ok(_), None) => StepOutcome::Passed("none needed, since KMS.Endpoint is set".to_owned()),
    }
}

async fn credentials(source: &KmsSource) -> StepOutcome {
    if let Err(why) = source.authenticate().await {
        return StepOutcome::failed(why, "");
    }
    let state = source.credentials();
    let provider = state.provider.unwrap_or_default();
    StepOutcome::Passed(match state.expires_at.and_then(Timestamp::to_rfc3339) {
        Some(end) => format!("{provider}, until {end}"),
        None => format!("{provider}, which does not expire"),
    })
}

fn judge_clock(skew: Option<Skew>) -> StepOutcome {
    let Some(skew) = skew else {
        return StepOutcome::Skipped("the endpoint does not tell the time");
    };
    let ahead = skew.ahead_millis();
    let off = Duration::from_millis(ahead.unsigned_abs());
    if off <= TOLERABLE_SKEW {
        return StepOutcome::Passed(format!("{} from that of KMS", rounded(off)));
    }
    let side = if ahead > 0 { "behind" } else { "ahead of" };
    StepOutcome::failed(
        format!(
            "this machine's clock is {} {side} that of KMS",
            rounded(off)
        ),
        "set it, best by NTP; KMS refuses requests that are 15 min off",
    )
}

fn rounded(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

async fn ask(source: &KmsSource, now: Duration, secret: Option<&SecretRef>) -> StepOutcome {
    let stranger = SecretId::parse(PROBE_SECRET).map(|id| SecretRef {
        id,
        selector: VersionSelector::CURRENT,
    });
    let Some(asked) = secret.or(stranger.as_ref().ok()) else {
        return StepOutcome::Skipped("there is nothing to ask for");
    };
    let request = FetchRequest {
        secret: asked,
        purpose: Purpose::Read,
        arrived_at: now,
        gate: &SendGate::default(),
        extended_config: false,
    };
    let error = match source.fetch(request).await {
        Ok(fetched) if secret.is_some() => {
            let version = &fetched.secret.version_id;
            return StepOutcome::Passed(format!(
                "{} can be read, version {version}",
                asked.id.as_str()
            ));
        }
        Ok(_) => return StepOutcome::Passed(RECOGNISED.to_owned()),
        Err(error) => error,
    };
    if secret.is_none() && remedy::shows_recognition(error.code()) {
        return StepOutcome::Passed(RECOGNISED.to_owned());
    }
    let what = match error.refusal() {
        Some(refusal) => format!("KMS answers {} {}", refusal.status, error.code()),
        None => error.report(),
    };
    let provider = source.credentials().provider.unwrap_or_default();
    let shown = Shown {
        provider: provider.into_owned(),
        place: source.credential_place(),
    };
    StepOutcome::failed(what, remedy::of_failure(&error, &shown))
}
