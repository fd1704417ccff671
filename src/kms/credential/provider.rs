use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use kms_agent_core::Timestamp;

use crate::gateway::Credential;

/// A place credentials come from.
///
/// Implementers bound each call in time and bytes, and do I/O in [`obtain`](Self::obtain) and
/// [`changed`](Self::changed) only. They keep no
/// credentials: their callers do. Dropping the future abandons the call.
#[async_trait]
pub(crate) trait CredentialProvider: fmt::Debug + Send + Sync + 'static {
    /// For logs and the status, such as `environment`.
    fn name(&self) -> &'static str;

    /// The stable name of the identity, if it is known without a call.
    fn identity(&self) -> Option<Arc<str>>;

    /// The part of a file that holds the credentials, if a file does, such as `profile dev of the file x`.
    fn place(&self) -> Option<String> {
        None
    }

    /// Whether asking again may bring another credential.
    fn renewable(&self) -> bool;

    /// Asks for credentials.
    async fn obtain(&self) -> Result<Obtained, CredentialError>;

    /// Waits until what the provider goes by is another than when it was last asked, so that the credentials
    /// it gave may be wrong now. Never ends where that cannot happen.
    async fn changed(&self);
}

/// Credentials from a provider.
#[derive(Clone, Debug)]
pub(crate) struct Obtained {
    pub(crate) credential: Credential,
    /// The stable name of who it makes the agent. Never a secret.
    pub(crate) identity: Arc<str>,
    /// The issuer's clock, by which the expiry is meant.
    pub(crate) issuer_time: Option<Timestamp>,
}

/// Provider, and where it was configured: the beginning of its error messages.
#[derive(Clone, Debug)]
pub(super) struct Origin(Arc<str>);

impl Origin {
    /// `text` follows the word "credentials", such as `by OIDC`.
    pub(super) fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Error of this provider with the cause `what`.
    pub(super) fn error(&self, what: impl fmt::Display) -> CredentialError {
        CredentialError::new(format!("credentials {}: {what}", self.0))
    }
}

/// Failure to get credentials: one sentence for operators that says which provider was tried, how, and what
/// to do. It never holds an answer's body or a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CredentialError(String);

impl CredentialError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CredentialError {}
