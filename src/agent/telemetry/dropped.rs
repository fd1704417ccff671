//! Lines that were never written, as a metric: a log with gaps must not look like a quiet one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use tracing_appender::non_blocking::ErrorCounter;

use super::writer::Outlet;

/// Counts lines that a full or failing disk has cost. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Lost(Arc<AtomicU64>);

impl Lost {
    pub(super) fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// `log_lines_dropped`: lines that the disk has cost, and those that came faster than they could be written.
#[derive(Debug)]
pub(super) struct DroppedLines {
    pub(super) lost: Lost,
    pub(super) file: Outlet,
    pub(super) stderr: ErrorCounter,
}

impl Collector for DroppedLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let queued = self.file.dropped() + dropped(&self.stderr);
        let counter = ConstCounter::new(self.lost.count() + queued);
        let metric = encoder.encode_descriptor(
            "log_lines_dropped",
            "Log lines that were not written, for want of time or of a working disk",
            None,
            counter.metric_type(),
        )?;
        counter.encode(metric)
    }
}

pub(super) fn dropped(counter: &ErrorCounter) -> u64 {
    u64::try_from(counter.dropped_lines()).unwrap_or(u64::MAX)
}
