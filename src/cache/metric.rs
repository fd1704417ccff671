//! The counters of the read path, as a Prometheus registry takes them.

use kms_agent_core::backend::BackendErrorKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Metrics of reads. Each counter is resolved once, so that counting is one atomic addition.
#[derive(Clone, Debug)]
pub struct ReadMetrics {
    pub(crate) hit: Counter,
    pub(crate) miss: Counter,
    pub(crate) stale: Counter,
    pub(crate) collapsed: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReadLabels {
    result: &'static str,
}

impl ReadMetrics {
    /// Registers `cache_reads{result}` under the registry's prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let family = Family::<ReadLabels, Counter>::default();
        registry.register(
            "cache_reads",
            "Reads of secrets by where the answer came from",
            family.clone(),
        );
        let counter = |result| family.get_or_create(&ReadLabels { result }).clone();
        Self {
            hit: counter("hit"),
            miss: counter("miss"),
            stale: counter("stale"),
            collapsed: counter("collapsed"),
        }
    }
}

/// Failures of the backend, by kind.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    errors: Family<StoreErrorLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreErrorLabels {
    kind: &'static str,
}

/// Failures of the store's background work, such as writing behind.
const BACKGROUND: &str = "background";

impl StoreMetrics {
    /// Registers `store_errors{kind}` under the registry's prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let errors = Family::default();
        registry.register(
            "store_errors",
            "Failed operations of the cache backend, and what it failed to do in the background",
            errors.clone(),
        );
        let metrics = Self { errors };
        // Series that exist from the start can be alerted on.
        for kind in [
            BackendErrorKind::TimedOut.as_str(),
            BackendErrorKind::Unavailable.as_str(),
            BackendErrorKind::Damaged.as_str(),
            BACKGROUND,
        ] {
            drop(metrics.counter(kind));
        }
        metrics
    }

    pub(crate) fn count(&self, kind: BackendErrorKind) {
        self.counter(kind.as_str()).inc();
    }

    pub(crate) fn count_background(&self, failures: u64) {
        self.counter(BACKGROUND).inc_by(failures);
    }

    fn counter(&self, kind: &'static str) -> Counter {
        self.errors
            .get_or_create(&StoreErrorLabels { kind })
            .clone()
    }
}
