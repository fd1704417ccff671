//! Metrics of the HTTP layer.

use http::StatusCode;
use kms_agent_core::BackendStats;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::readiness::{CHECKS, Readiness};

/// Requests by outcome, and gauges that are set at each scrape.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    entries: Gauge,
    store_bytes: Gauge,
    /// Requests that wait for a change.
    pub(crate) watchers: Gauge,
    checks: [Gauge; CHECKS.len()],
    ok: Counter,
    invalid: Counter,
    forbidden: Counter,
    not_found: Counter,
    limited: Counter,
    failed: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    check: &'static str,
}

impl HttpMetrics {
    /// Registers `requests{outcome}`, `cache_entries`, `store_bytes`, `watchers` and `check_state{check}` under the
    /// registry's prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let family = Family::<OutcomeLabels, Counter>::default();
        registry.register("requests", "HTTP requests by outcome", family.clone());
        let entries = Gauge::default();
        registry.register("cache_entries", "Entries in the cache", entries.clone());
        let store_bytes = Gauge::default();
        registry.register(
            "store_bytes",
            "Size of the cache's store on disk; 0 without one",
            store_bytes.clone(),
        );
        let watchers = Gauge::default();
        registry.register(
            "watchers",
            "Requests that wait for a change of a secret",
            watchers.clone(),
        );
        let states = Family::<CheckLabels, Gauge>::default();
        registry.register(
            "check_state",
            "State of each check of /readyz: 0 ok, 1 degraded, 2 failed",
            states.clone(),
        );
        let counter = |outcome| family.get_or_create(&OutcomeLabels { outcome }).clone();
        Self {
            entries,
            store_bytes,
            watchers,
            checks: CHECKS.map(|check| states.get_or_create(&CheckLabels { check }).clone()),
            ok: counter("ok"),
            invalid: counter("invalid"),
            forbidden: counter("forbidden"),
            not_found: counter("not_found"),
            limited: counter("limited"),
            failed: counter("failed"),
        }
    }

    /// Sets the gauges of the cache.
    pub(crate) fn set_cache(&self, cache: &BackendStats) {
        let bytes = cache
            .store
            .as_ref()
            .and_then(|store| store.bytes)
            .unwrap_or(0);
        self.entries
            .set(i64::try_from(cache.entries).unwrap_or(i64::MAX));
        self.store_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Sets the gauges of the checks.
    pub(crate) fn set_checks(&self, readiness: &Readiness) {
        for (gauge, level) in self.checks.iter().zip(readiness.levels()) {
            gauge.set(level as i64);
        }
    }

    pub(crate) fn count(&self, status: StatusCode) {
        let counter = match status {
            StatusCode::FORBIDDEN => &self.forbidden,
            StatusCode::NOT_FOUND => &self.not_found,
            StatusCode::TOO_MANY_REQUESTS => &self.limited,
            status if status.is_success() => &self.ok,
            status if status.is_client_error() => &self.invalid,
            _ => &self.failed,
        };
        counter.inc();
    }
}
