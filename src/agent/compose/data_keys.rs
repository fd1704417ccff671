//! Data keys for the backend, which is opened before the source of secrets exists.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use kms_agent_core::data_key::{DecryptedKey, EncryptionContext, GeneratedKey};
use kms_agent_core::source::{OVERALL_TIMEOUT, SourceErrorKind};
use kms_agent_core::{Clock, DataKeySource, SourceError};
use tokio::sync::watch;

/// Forwards to the source in use. Until the first one is set, a caller waits for it.
pub(super) struct DataKeys {
    source: watch::Sender<Option<Arc<dyn DataKeySource>>>,
    clock: Arc<dyn Clock>,
}

impl DataKeys {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            source: watch::Sender::new(None),
            clock,
        })
    }

    /// Sets the source, at startup and at each reload that replaces it.
    pub(super) fn set(&self, source: Arc<dyn DataKeySource>) {
        self.source.send_replace(Some(source));
    }

    async fn source(&self) -> Result<Arc<dyn DataKeySource>, SourceError> {
        let mut source = self.source.subscribe();
        let deadline = self.clock.boot() + OVERALL_TIMEOUT;
        let set = tokio::select! {
            biased;
            set = source.wait_for(Option::is_some) => set.ok().and_then(|set| set.clone()),
            () = self.clock.sleep_until(deadline) => None,
        };
        set.ok_or_else(|| {
            SourceError::new(
                SourceErrorKind::Unavailable,
                "the agent has not started yet",
            )
        })
    }
}

impl fmt::Debug for DataKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKeys").finish_non_exhaustive()
    }
}

#[async_trait]
impl DataKeySource for DataKeys {
    async fn generate(
        &self,
        key_id: &str,
        context: &EncryptionContext<'_>,
    ) -> Result<GeneratedKey, SourceError> {
        self.source().await?.generate(key_id, context).await
    }

    async fn decrypt(
        &self,
        ciphertext: &str,
        context: &EncryptionContext<'_>,
    ) -> Result<DecryptedKey, SourceError> {
        self.source().await?.decrypt(ciphertext, context).await
    }
}
