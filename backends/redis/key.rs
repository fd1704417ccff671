//! Key of the fleet: a file that the operator distributes, or a data key of KMS whose ciphertext is on the server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kms_agent_core::data_key::is_key;
use kms_agent_core::{DataKeySource, run_blocking};
use kms_agent_sealed::key::{KeyError, KeySource, RootKey};

use crate::keyring::Keyring;
use crate::server::{Connection, Trouble, TroubleKind, keep_ciphertext, replace_ciphertext};

/// Product that a data key is bound to.
const PRODUCT: &str = "alibabacloud-kms-agent";

/// Source of the fleet's key.
#[derive(Debug)]
pub(crate) enum FleetKey {
    File(KeySource),
    Kms(DataKey),
}

/// A data key under a key of KMS.
#[derive(Debug)]
pub(crate) struct DataKey {
    key_id: String,
    source: Arc<dyn DataKeySource>,
    /// Ciphertext in use, and what it opens.
    current: Mutex<Option<(String, Arc<Keyring>)>>,
}

/// Reads the key file and derives the keys of the fleet.
pub(crate) fn load(source: &KeySource, prefix: &str) -> Result<Arc<Keyring>, KeyError> {
    let root = source.load()?;
    Ok(Arc::new(Keyring::new(&root, prefix)))
}

impl FleetKey {
    pub(crate) fn kms(key_id: String, source: Arc<dyn DataKeySource>) -> Self {
        Self::Kms(DataKey {
            key_id,
            source,
            current: Mutex::default(),
        })
    }

    /// Obtains the keys of the fleet, for a connection that has just been made.
    pub(crate) async fn keyring(
        &self,
        connection: &Connection,
        prefix: &str,
        timeout: Duration,
    ) -> Result<Arc<Keyring>, Trouble> {
        match self {
            Self::File(source) => {
                let (source, prefix) = (source.clone(), prefix.to_owned());
                let loaded = run_blocking(move || load(&source, &prefix))
                    .await
                    .map_err(|error| Trouble::new(TroubleKind::Failing, error.to_string()))?;
                loaded.map_err(|error| Trouble::new(TroubleKind::KeyMissing, error.message()))
            }
            Self::Kms(key) => key.keyring(connection, prefix, timeout).await,
        }
    }

    /// Returns whether the key on the server is the one in use; puts it back where it is missing.
    pub(crate) async fn is_current(
        &self,
        connection: &Connection,
        prefix: &str,
        timeout: Duration,
    ) -> Result<bool, Trouble> {
        let Self::Kms(key) = self else {
            return Ok(true);
        };
        let Some((ciphertext, _)) = key.current() else {
            return Ok(false);
        };
        let held = keep_ciphertext(connection, prefix, &ciphertext, timeout).await?;
        Ok(held == ciphertext)
    }

    /// Puts a new data key on the server in the place of the one in use.
    pub(crate) async fn rotate(
        &self,
        connection: &Connection,
        prefix: &str,
        timeout: Duration,
    ) -> Result<(), Trouble> {
        let Self::Kms(key) = self else {
            return Ok(());
        };
        let (ciphertext, keyring) = key.generate(prefix).await?;
        replace_ciphertext(connection, prefix, &ciphertext, timeout).await?;
        key.set(ciphertext, keyring);
        Ok(())
    }
}

impl DataKey {
    async fn keyring(
        &self,
        connection: &Connection,
        prefix: &str,
        timeout: Duration,
    ) -> Result<Arc<Keyring>, Trouble> {
        let (own, keyring) = match self.current() {
            Some(current) => current,
            None => match keep_ciphertext(connection, prefix, "", timeout).await? {
                // The first agent of the fleet.
                held if held.is_empty() => self.generate(prefix).await?,
                held => {
                    let keyring = self.open(&held, prefix).await?;
                    (held, keyring)
                }
            },
        };
        // The first ciphertext on the server wins.
        let held = keep_ciphertext(connection, prefix, &own, timeout).await?;
        let keyring = if held == own {
            keyring
        } else {
            self.open(&held, prefix).await?
        };
        self.set(held, Arc::clone(&keyring));
        Ok(keyring)
    }

    async fn generate(&self, prefix: &str) -> Result<(String, Arc<Keyring>), Trouble> {
        let context = [("product", PRODUCT), ("prefix", prefix)];
        let generated = self.source.generate(&self.key_id, &context).await;
        let generated = generated
            .map_err(|error| Trouble::new(TroubleKind::DataKeyUnavailable, error.report()))?;
        let root = RootKey::from_bytes(generated.plaintext);
        Ok((generated.ciphertext, Arc::new(Keyring::new(&root, prefix))))
    }

    async fn open(&self, ciphertext: &str, prefix: &str) -> Result<Arc<Keyring>, Trouble> {
        let context = [("product", PRODUCT), ("prefix", prefix)];
        let decrypted = self.source.decrypt(ciphertext, &context).await;
        let decrypted = decrypted
            .map_err(|error| Trouble::new(TroubleKind::DataKeyUnavailable, error.report()))?;
        if !is_key(&self.key_id, &decrypted.key_id) {
            return Err(Trouble::new(
                TroubleKind::DataKeyUnavailable,
                "the data key on the server is under another key than Cache.Redis.KmsKeyId",
            ));
        }
        let root = RootKey::from_bytes(decrypted.plaintext);
        Ok(Arc::new(Keyring::new(&root, prefix)))
    }

    fn current(&self) -> Option<(String, Arc<Keyring>)> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    fn set(&self, ciphertext: String, keyring: Arc<Keyring>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some((ciphertext, keyring));
    }
}
