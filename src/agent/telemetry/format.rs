//! Format of the log, text or JSON, which may change while the agent runs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::json;
use crate::config::LogFormat;

/// Both formats and the current choice. Clones change together.
#[derive(Clone, Debug)]
pub(super) struct EitherFormat {
    text: Format<Full>,
    is_json: Arc<AtomicBool>,
}

impl EitherFormat {
    pub(super) fn set(&self, format: LogFormat) {
        self.is_json
            .store(format == LogFormat::Json, Ordering::Relaxed);
    }
}

impl Default for EitherFormat {
    fn default() -> Self {
        Self {
            text: Format::default().with_ansi(false),
            is_json: Arc::default(),
        }
    }
}

impl<S, N> FormatEvent<S, N> for EitherFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.is_json.load(Ordering::Relaxed) {
            writer.write_str(&json::line(event)?)
        } else {
            self.text.format_event(context, writer, event)
        }
    }
}
