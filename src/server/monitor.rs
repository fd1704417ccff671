//! State of the agent for probes and for Prometheus.

mod metric;
mod readiness;

pub use self::metric::HttpMetrics;
pub(crate) use self::readiness::Readiness;
