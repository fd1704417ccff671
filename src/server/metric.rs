//! The counters of the HTTP layer.

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Requests by outcome, and what is looked up only when somebody scrapes.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    entries: Gauge,
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

impl HttpMetrics {
    /// Registers `requests{outcome}` and `cache_entries` under the registry's prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let family = Family::<OutcomeLabels, Counter>::default();
        registry.register("requests", "HTTP requests by outcome", family.clone());
        let entries = Gauge::default();
        registry.register("cache_entries", "Entries in the cache", entries.clone());
        let counter = |outcome| family.get_or_create(&OutcomeLabels { outcome }).clone();
        Self {
            entries,
            ok: counter("ok"),
            invalid: counter("invalid"),
            forbidden: counter("forbidden"),
            not_found: counter("not_found"),
            limited: counter("limited"),
            failed: counter("failed"),
        }
    }

    pub(crate) fn set_entries(&self, entries: usize) {
        self.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
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
