//! Values on the server: generation and lease in clear, the rest sealed.

use kms_agent_core::secret::Secret;
use kms_agent_core::{CacheEntry, SecretKey, SecretValue};
use kms_agent_sealed::record::Header;
use kms_agent_sealed::seal::CannotSeal;

use crate::keyring::{Binding, Epoch, Keyring, Kind};

/// Hexadecimal digits of a generation or lease id.
pub(crate) const MARK_BYTES: usize = 16;

/// Random text that names a generation or a lease.
pub(crate) type Mark = [u8; MARK_BYTES];

/// Draws a mark.
pub(crate) fn random_mark() -> Result<Mark, CannotSeal> {
    let mut bytes = [0; MARK_BYTES / 2];
    getrandom::fill(&mut bytes).map_err(|_| CannotSeal)?;
    let mut mark = [0; MARK_BYTES];
    mark.copy_from_slice(crate::keyring::hex(&bytes).as_bytes());
    Ok(mark)
}

/// A value taken apart, not opened yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamped<'a> {
    pub(crate) generation: &'a [u8],
    /// Lease under which it was stored.
    pub(crate) lease: Mark,
    pub(crate) sealed: &'a [u8],
}

/// Puts a value together.
pub(crate) fn stamp(generation: &[u8], lease: &Mark, sealed: &[u8]) -> Vec<u8> {
    [generation, lease, sealed].concat()
}

impl<'a> Stamped<'a> {
    /// Takes a value apart; `None` for anything that no agent wrote.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (generation, rest) = bytes.split_at_checked(MARK_BYTES)?;
        let (lease, sealed) = rest.split_first_chunk()?;
        Some(Self {
            generation,
            lease: *lease,
            sealed,
        })
    }
}

/// Seals `entry`, whose lifetime is by the server's clock.
pub(crate) fn seal_entry(
    keyring: &Keyring,
    epoch: &Epoch,
    generation: &[u8],
    key: &SecretKey,
    entry: &CacheEntry,
) -> Result<Vec<u8>, CannotSeal> {
    let binding = Binding {
        epoch,
        generation,
        key,
        kind: Kind::Record,
    };
    let header = Header::encode(key, entry);
    let sealed = keyring.seal(binding, &header, entry.secret.answer.expose())?;
    Ok(sealed.to_vec())
}

/// Opens an entry, whose lifetime is by the server's clock. `None` for one that was changed, moved or replayed.
pub(crate) fn open_entry(
    keyring: &Keyring,
    epoch: &Epoch,
    key: &SecretKey,
    stamped: Stamped<'_>,
) -> Option<CacheEntry> {
    let binding = Binding {
        epoch,
        generation: stamped.generation,
        key,
        kind: Kind::Record,
    };
    let header = keyring.open_header(binding, stamped.sealed).ok()?;
    let header = Header::decode(&header)?;
    Some(CacheEntry {
        secret: Secret {
            answer: SecretValue::new(keyring.open_value(binding, stamped.sealed).ok()?),
            version_id: header.version_id.into(),
            stages: header.owned_stages(),
        },
        lifetime: header.lifetime,
    })
}

/// Content of a KMS answer, apart from the id of the request that it answers.
pub(crate) fn content(answer: &[u8]) -> Vec<u8> {
    let parsed: Result<serde_json::Map<String, serde_json::Value>, _> =
        serde_json::from_slice(answer);
    match parsed {
        Ok(mut members) => {
            members.remove("RequestId");
            serde_json::to_vec(&members).unwrap_or_else(|_| answer.to_vec())
        }
        Err(_) => answer.to_vec(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use kms_agent_core::{Scope, SecretId, SecretRef, VersionSelector};

    use super::*;

    pub(crate) fn key(id: &str) -> SecretKey {
        SecretKey {
            scope: Arc::new(Scope {
                endpoint: "kms.example".into(),
                identity: "identity".into(),
            }),
            secret: SecretRef {
                id: SecretId::parse(id).unwrap(),
                selector: VersionSelector::CURRENT,
            },
        }
    }

    #[test]
    fn two_answers_that_differ_in_their_request_id_have_the_same_content() {
        let one = br#"{"RequestId":"1","SecretData":"v"}"#;
        let two = br#"{"SecretData":"v","RequestId":"2"}"#;
        assert_eq!(content(one), content(two));
        assert_ne!(content(one), content(br#"{"SecretData":"w"}"#));
    }
}
