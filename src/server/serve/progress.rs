//! Progress of a connection, which its stream, its requests and its shutdown share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a connection is, for its stream and its end.
#[derive(Debug, Default)]
pub(super) struct ConnectionProgress {
    /// The client will not be listened to any longer than it has spoken already.
    pub(super) leaving: AtomicBool,
    /// A request is whole and has no answer yet.
    pub(super) answering: AtomicBool,
    /// How many requests have become whole.
    pub(super) requests: AtomicU64,
    /// Some of an answer could not be written yet.
    pub(super) writing: AtomicBool,
}

impl ConnectionProgress {
    /// A request is whole.
    pub(super) fn begin_answer(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.answering.store(true, Ordering::Relaxed);
    }

    /// Its answer is there, and can be written.
    pub(super) fn end_answer(&self) {
        self.answering.store(false, Ordering::Relaxed);
    }

    /// Whether the client is waiting for something, and not the other way round.
    pub(super) fn is_owing(&self) -> bool {
        self.answering.load(Ordering::Relaxed) || self.writing.load(Ordering::Relaxed)
    }
}
