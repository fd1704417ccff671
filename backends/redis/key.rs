//! Key of the fleet as the config names it.

use std::sync::Arc;

use kms_agent_sealed::key::{KeyError, KeySource};

use crate::keyring::Keyring;

/// Reads the key file and derives the keys of the fleet.
pub(crate) fn load(source: &KeySource, prefix: &str) -> Result<Arc<Keyring>, KeyError> {
    let root = source.load()?;
    Ok(Arc::new(Keyring::new(&root, prefix)))
}
