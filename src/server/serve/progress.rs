//! Progress of a connection, which its stream, its requests and its shutdown share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// State of a connection.
#[derive(Debug, Default)]
pub(super) struct ConnectionProgress {
    /// Nothing is read beyond the bytes that have arrived already.
    pub(super) leaving: AtomicBool,
    /// A complete request has no response yet.
    pub(super) answering: AtomicBool,
    /// Number of complete requests.
    pub(super) requests: AtomicU64,
    /// A part of a response could not be written yet.
    pub(super) writing: AtomicBool,
}

impl ConnectionProgress {
    /// Notes that a request is complete.
    pub(super) fn begin_answer(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.answering.store(true, Ordering::Relaxed);
    }

    /// Notes that its response can be written.
    pub(super) fn end_answer(&self) {
        self.answering.store(false, Ordering::Relaxed);
    }

    /// Whether the client is owed a response or a part of one.
    pub(super) fn is_owing(&self) -> bool {
        self.answering.load(Ordering::Relaxed) || self.writing.load(Ordering::Relaxed)
    }
}
