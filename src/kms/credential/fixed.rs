use std::sync::Arc;

use async_trait::async_trait;

use super::provider::{CredentialError, CredentialProvider, Obtained};
use crate::gateway::Credential;

/// A configured key.
#[derive(Debug)]
pub(super) struct FixedProvider {
    name: &'static str,
    credential: Credential,
    identity: Arc<str>,
}

impl FixedProvider {
    pub(super) fn new(name: &'static str, credential: Credential, identity: Arc<str>) -> Self {
        Self {
            name,
            credential,
            identity,
        }
    }
}

#[async_trait]
impl CredentialProvider for FixedProvider {
    fn name(&self) -> &'static str {
        self.name
    }

    fn identity(&self) -> Option<Arc<str>> {
        Some(Arc::clone(&self.identity))
    }

    fn renewable(&self) -> bool {
        false
    }

    async fn obtain(&self) -> Result<Obtained, CredentialError> {
        Ok(Obtained {
            credential: self.credential.clone(),
            identity: Arc::clone(&self.identity),
            issuer_time: None,
        })
    }

    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}
