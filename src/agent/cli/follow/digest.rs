//! Keyed digests, which tell whether a value has changed without the value.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::exit::Failure;

/// Digests of values by name, under a random key of this process.
#[derive(Debug)]
pub(in crate::cli) struct Digests {
    keyed: Hmac<Sha256>,
    known: BTreeMap<String, [u8; 32]>,
}

impl Digests {
    /// Draws a key.
    pub(in crate::cli) fn new() -> Result<Self, Failure> {
        let mut key = Zeroizing::new([0; 64]);
        getrandom::fill(key.as_mut_slice())
            .map_err(|error| Failure::failed(format!("no random key can be drawn: {error}")))?;
        Ok(Self {
            keyed: <Hmac<Sha256> as KeyInit>::new(&(*key).into()),
            known: BTreeMap::new(),
        })
    }

    /// Keeps the digest of `value`. Returns whether that is another one than before.
    pub(in crate::cli) fn update(&mut self, name: &str, value: &[u8]) -> bool {
        let digest: [u8; 32] = self
            .keyed
            .clone()
            .chain_update(value)
            .finalize()
            .into_bytes()
            .into();
        self.known.insert(name.to_owned(), digest) != Some(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_value_is_a_change() {
        let mut digests = Digests::new().unwrap();
        assert!(digests.update("a", b"1"));
        assert!(digests.update("b", b"1"));
        assert!(!digests.update("a", b"1"));
        assert!(digests.update("a", b"2"));
        assert!(!digests.update("b", b"1"));
        let mut others = Digests::new().unwrap();
        others.update("a", b"2");
        assert_ne!(
            others.known["a"], digests.known["a"],
            "each process has its key"
        );
    }
}
