//! Metric of lines that were not written, so that a log with gaps is noticed.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use tracing_appender::non_blocking::ErrorCounter;

use super::writer::{LogFileWriter, LostLines, dropped};

/// `log_lines_dropped`: lines lost to disk errors, and lines that came faster than they could be written.
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
            "Log lines that were dropped or could not be written",
            None,
            counter.metric_type(),
        )?;
        counter.encode(metric)
    }
}
