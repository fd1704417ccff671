//! Access log: one line a request at level Debug, target `access`.

use std::time::Duration;

use http::Response;
use kms_agent_core::secret::loggable;
use tracing::level_filters::LevelFilter;

use crate::caller::Peer;

/// Log target, which operators filter by.
pub(crate) const TARGET: &str = "access";

/// Fields that only the route knows. The response carries them to the function that writes the line.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) secret: String,
    pub(crate) version: String,
    pub(crate) cache: String,
}

/// Whether the lines are written at the current log level.
pub(crate) fn is_logged() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG
}

/// Writes the line of one request.
pub(crate) fn log<B>(response: &Response<B>, peer: &Peer, took: Duration) {
    let record = response.extensions().get::<Record>();
    let field = |pick: fn(&Record) -> &String| record.map_or("-", |record| loggable(pick(record)));
    tracing::debug!(
        target: TARGET,
        secret = field(|record| &record.secret),
        version = field(|record| &record.version),
        status = response.status().as_u16(),
        cache = field(|record| &record.cache),
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        peer.port = peer.port(),
        "request"
    );
}
