//! Verification of ACS3-HMAC-SHA256.

mod authorization;
mod canonical;
mod verify;

use sha2::{Digest, Sha256};

pub(crate) use authorization::Authorization;
pub(crate) use verify::{check_date, verify};

use crate::state::random::hex;

/// Only accepted scheme.
const SCHEME: &str = "ACS3-HMAC-SHA256";

/// Returns the SHA-256 of `bytes` in hex.
fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
