//! Source of data keys, as a port.

use std::fmt;

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::source::SourceError;

/// Number of bytes in a data key.
pub const DATA_KEY_BYTES: usize = 32;

/// Bytes of a data key, wiped when they are dropped.
pub type DataKeyBytes = Zeroizing<[u8; DATA_KEY_BYTES]>;

/// Names and values that a ciphertext is bound to. It is decrypted under the same ones only. They are not secret.
pub type EncryptionContext<'a> = [(&'a str, &'a str)];

/// A service that makes data keys under a key of its own, and decrypts them: KMS, or a double of it.
///
/// Implementers bound every call in time and bytes, and retry within that bound. They hold no key that they gave out.
#[async_trait]
pub trait DataKeySource: fmt::Debug + Send + Sync + 'static {
    /// Makes a data key under the key `key_id`, bound to `context`. An answer that names another key is an error.
    async fn generate(
        &self,
        key_id: &str,
        context: &EncryptionContext<'_>,
    ) -> Result<GeneratedKey, SourceError>;

    /// Decrypts a data key. The caller compares the key of the answer with the one that it expects, by [`is_key`].
    async fn decrypt(
        &self,
        ciphertext: &str,
        context: &EncryptionContext<'_>,
    ) -> Result<DecryptedKey, SourceError>;
}

/// New data key.
pub struct GeneratedKey {
    /// The key itself.
    pub plaintext: DataKeyBytes,
    /// Its ciphertext in the form that KMS gave it. Not secret.
    pub ciphertext: String,
}

/// Data key from its ciphertext.
pub struct DecryptedKey {
    /// The key itself.
    pub plaintext: DataKeyBytes,
    /// Id of the key that it is encrypted under, as the service names it.
    pub key_id: String,
}

impl fmt::Debug for GeneratedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratedKey")
            .field("ciphertext", &self.ciphertext)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DecryptedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecryptedKey")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// Whether `answered`, the key id in an answer, names the key `configured`: an id, or an ARN that ends in one.
pub fn is_key(configured: &str, answered: &str) -> bool {
    let configured_id = configured
        .rsplit_once(":key/")
        .map_or(configured, |(_, id)| id);
    let answered_id = answered.rsplit_once(":key/").map_or(answered, |(_, id)| id);
    if configured.starts_with("acs:") && answered.starts_with("acs:") {
        return configured == answered;
    }
    !configured_id.is_empty() && configured_id == answered_id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_its_id_or_its_arn() {
        let arn = "acs:kms:cn-hangzhou:1:key/key-a";
        for (configured, answered, expected) in [
            ("key-a", "key-a", true),
            (arn, "key-a", true),
            ("key-a", arn, true),
            (arn, arn, true),
            (arn, "acs:kms:cn-hangzhou:2:key/key-a", false),
            ("key-a", "key-b", false),
            (arn, "key-b", false),
            ("", "", false),
        ] {
            assert_eq!(
                is_key(configured, answered),
                expected,
                "{configured} {answered}"
            );
        }
    }

    #[test]
    fn no_key_is_printed() {
        let key = GeneratedKey {
            plaintext: Zeroizing::new([173; DATA_KEY_BYTES]),
            ciphertext: "blob".to_owned(),
        };
        assert!(!format!("{key:?}").contains("173"));
        let key = DecryptedKey {
            plaintext: Zeroizing::new([173; DATA_KEY_BYTES]),
            key_id: "key-a".to_owned(),
        };
        assert!(!format!("{key:?}").contains("173"));
    }
}
