//! Lines that were never written, as a metric: a log with gaps must not look like a quiet one.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use tracing_appender::non_blocking::ErrorCounter;

use super::writer::{LogFileWriter, LostLines, dropped};

/// `log_lines_dropped`: lines that the disk has cost, and those that came faster than they could be written.
#[derive(Debug)]
pub(super) struct DroppedLines {
    pub(super) lost: LostLines,
    pub(super) file: LogFileWriter,
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
