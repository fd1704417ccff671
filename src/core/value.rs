//! The one holder of plaintext.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// Secret bytes, shared between readers and overwritten when the last of them lets go.
///
/// There is deliberately no `Display`, `Serialize`, `PartialEq` or `Deref`: the bytes leave only through
/// [`expose`](Self::expose), which is easy to find in a review.
#[derive(Clone)]
pub struct SecretValue(Arc<Zeroizing<Vec<u8>>>);

impl SecretValue {
    /// Takes over `bytes`. No copy is made, so the caller's buffer is the one that is wiped.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(Arc::new(bytes))
    }

    /// The plaintext.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes, which is not a secret.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Number of holders of these bytes, the caller included. They are wiped when the last holder drops them.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretValue(<{} bytes redacted>)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_length_and_nothing_else() {
        let value = SecretValue::new(Zeroizing::new(b"hunter2".to_vec()));
        assert_eq!(format!("{value:?}"), "SecretValue(<7 bytes redacted>)");
        assert_eq!(format!("{value:#?}"), "SecretValue(<7 bytes redacted>)");
    }
}
