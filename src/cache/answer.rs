//! Demands of readers, and answers to them.

use std::time::Duration;

use kms_agent_core::secret::Secret;

/// Demand of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// A fresh copy, or what KMS says, or an expired copy while KMS cannot say anything.
    Any,
    /// Only what KMS answers from now on.
    RefreshNow,
}

/// A secret for a reader, with what there is to know about it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The secret.
    pub secret: Secret,
    /// Time since KMS was asked.
    pub age: Duration,
    /// Origin of the answer.
    pub status: CacheStatus,
}

/// Origin of an answer, in the terms of RFC 9211.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// A fresh copy.
    Hit {
        /// For how much longer it is fresh.
        left: Duration,
    },
    /// KMS was asked and answered.
    Forwarded {
        /// Reason of the call.
        reason: ForwardReason,
        /// Whether the answer is now in the cache.
        stored: bool,
        /// Whether another reader had asked already.
        collapsed: bool,
    },
    /// An expired copy, because KMS could not answer.
    Stale {
        /// Whether it was asked for this reader; otherwise it was known to be failing.
        forwarded: bool,
        /// For how long the copy has been expired.
        since: Duration,
        /// Code of the failure: a token.
        detail: String,
    },
}

/// Reason of a call to KMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardReason {
    /// There was no copy.
    Miss,
    /// There was an expired one.
    Stale,
    /// The reader wanted no copy.
    Request,
    /// Nothing is ever stored.
    Bypass,
}
