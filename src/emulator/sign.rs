//! ACS3-HMAC-SHA256, seen from the service's side.

mod authorization;
mod canonical;
mod verify;

use std::fmt::Write;

use sha2::{Digest, Sha256};

pub(crate) use authorization::Authorization;
pub(crate) use verify::{check_date, verify};

/// The only scheme accepted.
const SCHEME: &str = "ACS3-HMAC-SHA256";

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The SHA-256 of `bytes` in hex.
fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
