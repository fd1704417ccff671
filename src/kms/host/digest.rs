//! Digests in hex.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// SHA-256 of `bytes`, in lower-case hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// HMAC-SHA256 of `message`, in lower-case hex.
#[expect(
    clippy::expect_used,
    reason = "HMAC takes keys of any length, so this cannot fail"
)]
pub(crate) fn hmac_hex(key: &[u8], message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(message);
    hex(&mac.finalize().into_bytes())
}

/// Short name of `bytes` that does not reveal them.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    sha256_hex(bytes).chars().take(16).collect()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
