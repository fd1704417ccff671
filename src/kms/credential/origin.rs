use std::fmt;
use std::sync::Arc;

use super::provider::CredentialError;

/// Which provider speaks, and where it was told what to do: how its errors begin.
#[derive(Clone, Debug)]
pub(super) struct Origin(Arc<str>);

impl Origin {
    /// `text` goes on after "credentials", such as `by OIDC`.
    pub(super) fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The error that `what` is.
    pub(super) fn error(&self, what: impl fmt::Display) -> CredentialError {
        CredentialError::new(format!("credentials {}: {what}", self.0))
    }
}
