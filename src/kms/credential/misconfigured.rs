use std::sync::Arc;

use async_trait::async_trait;

use super::provider::{CredentialError, CredentialProvider, Obtained};

/// A provider that is chosen but cannot work as it is set up, or the absence of any. It fails, rather than
/// let another identity step in.
#[derive(Debug)]
pub(super) struct Misconfigured {
    name: &'static str,
    error: CredentialError,
}

impl Misconfigured {
    pub(super) fn new(name: &'static str, error: CredentialError) -> Self {
        Self { name, error }
    }
}

#[async_trait]
impl CredentialProvider for Misconfigured {
    fn name(&self) -> &'static str {
        self.name
    }

    fn identity(&self) -> Option<Arc<str>> {
        None
    }

    fn renewable(&self) -> bool {
        false
    }

    async fn obtain(&self) -> Result<Obtained, CredentialError> {
        Err(self.error.clone())
    }

    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}
