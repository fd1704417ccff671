//! Source of secrets, as a port, and its errors.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::lifetime::Timestamp;
use crate::secret::{Fetched, Scope, SecretRef};

/// Reason of a fetch, which decides the priority when the budget of calls is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To renew an entry that is held. Goes first.
    Refresh,
    /// A reader waits for it and there is no fresh copy.
    Read,
    /// A reader refused any copy. Gets at most half of the budget.
    RefreshNow,
    /// Check of a watched secret. Never waits for a turn: it fails at once where others wait.
    Watch,
}

/// The longest that a reader waits, from its arrival, for all that a fetch takes.
pub const OVERALL_TIMEOUT: Duration = Duration::from_secs(10);

/// One order to a source.
#[derive(Clone, Copy, Debug)]
pub struct FetchRequest<'a> {
    /// The secret to fetch.
    pub secret: &'a SecretRef,
    /// Purpose of the fetch.
    pub purpose: Purpose,
    /// Arrival of the reader, by [`Clock::boot`](crate::Clock::boot). The overall deadline counts
    /// from here.
    pub arrived_at: Duration,
    /// Passed by the source before it sends anything.
    pub gate: &'a SendGate,
    /// Whether the answer shall hold the extended configuration of a managed secret.
    pub extended_config: bool,
}

/// The most secrets of one batch.
pub const MAX_BATCH: usize = 20;

/// One order to a source for several secrets.
#[derive(Clone, Copy, Debug)]
pub struct BatchRequest<'a> {
    /// Secrets to fetch, at most [`MAX_BATCH`], each name once.
    pub secrets: &'a [BatchItem],
    /// Purpose of the call.
    pub purpose: Purpose,
    /// Arrival of the first reader, by [`Clock::boot`](crate::Clock::boot). The overall deadline counts
    /// from here.
    pub arrived_at: Duration,
}

/// One secret of a batch.
#[derive(Clone, Debug)]
pub struct BatchItem {
    /// The secret to fetch.
    pub secret: SecretRef,
    /// Whether the answer shall hold the extended configuration of a managed secret.
    pub extended_config: bool,
}

/// Outcome of one secret of a batch; `None` where the answer says nothing about it.
pub type BatchOutcome = Option<Result<Fetched, SourceError>>;

/// The moment up to which a fetch that no reader waits for is given up. A call that was sent runs to its end.
#[derive(Clone, Debug, Default)]
pub struct SendGate(Arc<AtomicU8>);

const UNDECIDED: u8 = 0;
const PASSED: u8 = 1;
const GIVEN_UP: u8 = 2;

impl SendGate {
    /// Notes that a call is about to be sent. Returns whether it may be: not if the fetch was given up.
    #[must_use]
    pub fn pass(&self) -> bool {
        self.decide(PASSED)
    }

    /// Gives the fetch up, unless its call was sent. Returns whether it is given up.
    #[must_use]
    pub fn give_up(&self) -> bool {
        self.decide(GIVEN_UP)
    }

    fn decide(&self, state: u8) -> bool {
        let decided =
            self.0
                .compare_exchange(UNDECIDED, state, Ordering::AcqRel, Ordering::Acquire);
        decided.map_or_else(|before| before == state, |_| true)
    }
}

/// Secret that a check asks for where no other is named.
///
/// The expected answer is that it does not exist or is not allowed: KMS gives it only to an identity that it accepts.
pub const PROBE_SECRET: &str = "alibabacloud-kms-agent-check";

/// A service that knows secrets: KMS, or a double of it.
///
/// Implementers bound every call in time and bytes, retry what is worth it within that bound, and keep
/// their own credentials. They know nothing of caches. Dropping a call's future abandons the call.
///
/// # Example
///
/// A source for tests that has no secrets:
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use kms_agent_core::secret::Fetched;
/// use kms_agent_core::source::{
///     BatchOutcome, BatchRequest, CredentialState, FetchRequest, SourceErrorKind,
/// };
/// use kms_agent_core::{Scope, SecretSource, SourceError};
///
/// #[derive(Debug)]
/// struct EmptySource;
///
/// #[async_trait::async_trait]
/// impl SecretSource for EmptySource {
///     fn scope(&self) -> Option<Arc<Scope>> {
///         Some(Arc::new(Scope { endpoint: "kms.example".into(), identity: "tester".into() }))
///     }
///
///     async fn learn_scope(&self, _arrived_at: Duration) {}
///
///     fn region(&self) -> Option<Arc<str>> {
///         None
///     }
///
///     fn credentials(&self) -> CredentialState {
///         CredentialState { usable: true, ..CredentialState::default() }
///     }
///
///     fn hindrance(&self) -> Option<SourceErrorKind> {
///         None
///     }
///
///     fn confirms_clock(&self) -> bool {
///         false
///     }
///
///     async fn fetch(&self, request: FetchRequest<'_>) -> Result<Fetched, SourceError> {
///         let name = request.secret.id.name();
///         Err(SourceError::new(SourceErrorKind::Decision, format!("{name} does not exist")))
///     }
///
///     async fn fetch_batch(&self, _: BatchRequest<'_>) -> Result<Vec<BatchOutcome>, SourceError> {
///         Err(SourceError::new(SourceErrorKind::Refused, "batches are not known here"))
///     }
/// }
///
/// assert_eq!(EmptySource.scope().unwrap().identity.as_ref(), "tester");
/// ```
#[async_trait]
pub trait SecretSource: fmt::Debug + Send + Sync + 'static {
    /// Endpoint and identity of a fetch, once both are known. Implementers publish it when they learn it: every read
    /// asks for it, so the call only loads it.
    fn scope(&self) -> Option<Arc<Scope>>;

    /// Finds out the scope, asking other services if need be, for a reader that came at `arrived_at` by
    /// [`Clock::boot`](crate::Clock::boot): it gives up when that reader's deadline has come. Whether the scope
    /// is known then, [`scope`](Self::scope) says.
    async fn learn_scope(&self, arrived_at: Duration);

    /// Region that secrets are read from, if it is known without a call.
    fn region(&self) -> Option<Arc<str>>;

    /// State of the agent's own credentials.
    fn credentials(&self) -> CredentialState;

    /// The failure that any fetch would have, if it is known without a call.
    fn hindrance(&self) -> Option<SourceErrorKind>;

    /// Whether the date in an answer of the service has agreed with this machine's wall clock.
    fn confirms_clock(&self) -> bool;

    /// Asks for a secret. Implementers ask `request.gate` before they send.
    async fn fetch(&self, request: FetchRequest<'_>) -> Result<Fetched, SourceError>;

    /// Asks for several secrets by one call. Returns an outcome for each, in their order. The error is that of the
    /// call as a whole and decides nothing about a secret.
    async fn fetch_batch(
        &self,
        request: BatchRequest<'_>,
    ) -> Result<Vec<BatchOutcome>, SourceError>;
}

/// State of the agent's own credentials. Never holds one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialState {
    /// The provider chosen, such as `environment`.
    pub provider: Option<Cow<'static, str>>,
    /// Whether there are usable credentials.
    pub usable: bool,
    /// Expiry; `None` for static ones.
    pub expires_at: Option<Timestamp>,
    /// Whether the last renewal failed, so that an operator should look.
    pub renewal_fails: bool,
}

/// Kind of a failure; each says what the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceErrorKind {
    /// No connection, a failed TLS handshake, a cut one. Serve a copy; try later.
    Unavailable,
    /// No answer in time. Serve a copy; try later.
    TimedOut,
    /// KMS asks for fewer calls. Serve a copy; try after `retry_after`.
    Throttled,
    /// KMS said it failed (5xx and its own failure codes). Serve a copy; try later.
    ServerFailure,
    /// An answer that is not from KMS. Serve a copy; try later.
    InvalidAnswer,
    /// The clocks of the agent and of KMS disagree, also after re-signing. Serve a copy; the operator
    /// must set the clock.
    ClockSkew,
    /// The agent has no credentials. Serve a copy; the operator must provide them.
    NoCredentials,
    /// KMS refuses the agent's own identity. Serve a copy; the operator must fix the identity.
    IdentityRefused,
    /// KMS refuses the whole account for the time being: a payment is overdue, or the service is switched off.
    /// Serve a copy; the account's owner must act.
    AccountRefused,
    /// No region is configured or found. The operator must name one.
    RegionUnknown,
    /// The agent's own ceiling on calls is reached. Serve a copy; try after `retry_after`.
    BudgetSpent,
    /// KMS decided that this secret is not to be had: gone, forbidden, or its key is disabled. Drop the
    /// copy.
    Decision,
    /// Any other refusal by KMS. Pass it on; the copy stays.
    Refused,
    /// KMS answered with another version than the one asked for. Store nothing.
    VersionNotFound,
}

impl SourceErrorKind {
    /// Whether the same question may be answered a little later, so that an expired copy may stand in.
    pub const fn is_transient(self) -> bool {
        match self {
            Self::Unavailable
            | Self::TimedOut
            | Self::Throttled
            | Self::ServerFailure
            | Self::InvalidAnswer
            | Self::ClockSkew
            | Self::NoCredentials
            | Self::IdentityRefused
            | Self::AccountRefused
            | Self::RegionUnknown
            | Self::BudgetSpent => true,
            Self::Decision | Self::Refused | Self::VersionNotFound => false,
        }
    }

    /// The agent's own name of the failure, for readers and the `detail` of `Cache-Status`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unavailable
            | Self::ServerFailure
            | Self::AccountRefused
            | Self::Decision
            | Self::Refused => "KmsUnavailable",
            Self::TimedOut => "UpstreamTimeout",
            Self::Throttled => "KmsThrottled",
            Self::InvalidAnswer => "InvalidUpstreamAnswer",
            Self::ClockSkew | Self::NoCredentials | Self::IdentityRefused => {
                "CredentialsUnavailable"
            }
            Self::RegionUnknown => "RegionUnknown",
            Self::BudgetSpent => "UpstreamBudgetExceeded",
            Self::VersionNotFound => "VersionNotFound",
        }
    }
}

/// Refusal by KMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsRefusal {
    /// The HTTP status line's code.
    pub status: u16,
    /// `Code`, such as `Forbidden.ResourceNotFound`.
    pub code: String,
    /// `Message`. Goes to readers, not to logs.
    pub message: String,
    /// `RequestId`.
    pub request_id: Option<String>,
}

/// A fetch that gave no secret.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.text())]
pub struct SourceError(Box<SourceFailure>);

#[derive(Debug)]
struct SourceFailure {
    kind: SourceErrorKind,
    refusal: Option<KmsRefusal>,
    retry_after: Option<Duration>,
    context: Cow<'static, str>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl SourceError {
    /// An error of `kind`; `context` is a sentence for operators that holds no secret.
    #[must_use]
    pub fn new(kind: SourceErrorKind, context: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(SourceFailure {
            kind,
            refusal: None,
            retry_after: None,
            context: context.into(),
            cause: None,
        }))
    }

    /// The same failure once more, for another reader; the causes stand in its sentence.
    #[must_use]
    pub fn repeated(&self) -> Self {
        Self(Box::new(SourceFailure {
            kind: self.0.kind,
            refusal: self.0.refusal.clone(),
            retry_after: self.0.retry_after,
            context: self.0.context.clone(),
            cause: self.0.cause.as_ref().map(|cause| cause.to_string().into()),
        }))
    }

    /// Adds what KMS said.
    #[must_use]
    pub fn with_refusal(mut self, refusal: KmsRefusal) -> Self {
        self.0.refusal = Some(refusal);
        self
    }

    /// Adds how long to wait before the next try.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.0.retry_after = retry_after;
        self
    }

    /// Adds what lies underneath.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Kind of the failure.
    pub fn kind(&self) -> SourceErrorKind {
        self.0.kind
    }

    /// The refusal, if KMS answered with one.
    pub fn refusal(&self) -> Option<&KmsRefusal> {
        self.0.refusal.as_ref()
    }

    /// Pause before the next try, if KMS asked for one.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The most telling name of the failure: what KMS called it, where that is a word, else ours.
    pub fn code(&self) -> &str {
        match &self.0.refusal {
            Some(refusal) if is_token(&refusal.code) => &refusal.code,
            _ => self.0.kind.code(),
        }
    }

    /// The sentence for operators, with the chain of causes.
    pub fn report(&self) -> String {
        let mut text = self.text();
        let mut cause: Option<&dyn Error> =
            self.0.cause.as_deref().map(|cause| cause as &dyn Error);
        while let Some(error) = cause {
            let line = error.to_string();
            if !text.ends_with(&line) {
                text.push_str(": ");
                text.push_str(&line);
            }
            cause = error.source();
        }
        text
    }

    fn text(&self) -> String {
        match &self.0.refusal {
            Some(refusal) => format!("{} ({} {})", self.0.context, refusal.status, self.code()),
            None => self.0.context.to_string(),
        }
    }
}

/// Whether `text` can stand unquoted in a structured header: a `token` of RFC 9110 that begins with a
/// letter, and of a sane length.
fn is_token(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> SourceError {
        SourceError::new(SourceErrorKind::Refused, "KMS refused").with_refusal(KmsRefusal {
            status: 400,
            code: code.to_owned(),
            message: "the message".to_owned(),
            request_id: None,
        })
    }

    #[test]
    fn a_code_that_is_not_a_token_is_never_repeated() {
        assert_eq!(refused("Rejected.Throttling").code(), "Rejected.Throttling");
        for bad in ["", "a b", "a;b", "a\r\nb", "1a", &"a".repeat(129)] {
            assert_eq!(refused(bad).code(), "KmsUnavailable");
        }
    }

    #[test]
    fn the_report_holds_the_causes_and_not_the_message_of_kms() {
        let error = refused("Oops").with_cause("broken pipe");
        assert_eq!(error.report(), "KMS refused (400 Oops): broken pipe");
    }
}
