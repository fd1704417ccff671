//! The counters of the calls to KMS, as a Prometheus registry takes them.

use std::time::Duration;

use kms_agent_core::source::SourceErrorKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// From a connection that is refused to the longest time-out that can be configured.
const BUCKETS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

/// Metrics of the calls to KMS, each attempt counted, and the expiry of the agent's credentials.
#[derive(Clone, Debug)]
pub struct KmsMetrics {
    requests: Family<ResultLabels, Counter>,
    seconds: Histogram,
    pub(crate) expiry: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

impl KmsMetrics {
    /// Registers `upstream_requests{result}`, `upstream_request_seconds` and
    /// `credentials_expiry_timestamp_seconds` under the registry's prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            seconds: Histogram::new(BUCKETS),
            expiry: Gauge::default(),
        };
        // Series that exist from the start can be alerted on.
        for result in RESULTS {
            drop(metrics.counter(result));
        }
        registry.register(
            "upstream_requests",
            "Attempts to call KMS by how they ended",
            metrics.requests.clone(),
        );
        registry.register(
            "upstream_request_seconds",
            "How long attempts to call KMS took",
            metrics.seconds.clone(),
        );
        registry.register(
            "credentials_expiry_timestamp_seconds",
            "When the agent's credentials end, in Unix time; 0 for static ones and while there are none",
            metrics.expiry.clone(),
        );
        metrics
    }

    pub(crate) fn count(&self, failure: Option<SourceErrorKind>, took: Duration) {
        self.counter(failure.map_or(OK, result)).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    fn counter(&self, result: &'static str) -> Counter {
        self.requests
            .get_or_create(&ResultLabels { result })
            .clone()
    }
}

const OK: &str = "ok";

const RESULTS: [&str; 9] = [
    OK,
    "refused",
    "throttled",
    "timed_out",
    "unavailable",
    "server_failure",
    "invalid_answer",
    "clock_skew",
    "identity_refused",
];

const fn result(kind: SourceErrorKind) -> &'static str {
    match kind {
        SourceErrorKind::Throttled => "throttled",
        SourceErrorKind::TimedOut => "timed_out",
        SourceErrorKind::Unavailable => "unavailable",
        SourceErrorKind::ServerFailure => "server_failure",
        SourceErrorKind::InvalidAnswer => "invalid_answer",
        SourceErrorKind::ClockSkew => "clock_skew",
        SourceErrorKind::IdentityRefused => "identity_refused",
        // The others are answers of KMS about the secret, or no attempts at all.
        SourceErrorKind::Decision
        | SourceErrorKind::Refused
        | SourceErrorKind::AccountRefused
        | SourceErrorKind::VersionNotFound
        | SourceErrorKind::NoCredentials
        | SourceErrorKind::RegionUnknown
        | SourceErrorKind::BudgetSpent => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_the_documented_ones_and_every_series_is_there_from_the_start() {
        let mut registry = Registry::with_prefix("kms_agent");
        let metrics = KmsMetrics::register(&mut registry);
        metrics.count(None, Duration::from_millis(20));
        metrics.count(Some(SourceErrorKind::Decision), Duration::from_millis(20));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        for line in [
            "kms_agent_upstream_requests_total{result=\"ok\"} 1",
            "kms_agent_upstream_requests_total{result=\"refused\"} 1",
            "kms_agent_upstream_requests_total{result=\"throttled\"} 0",
            "kms_agent_upstream_request_seconds_count 2",
            "kms_agent_credentials_expiry_timestamp_seconds 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
