//! ACS3-HMAC-SHA256, seen from the service's side.

mod authorization;
mod canonical;
mod verify;

use sha2::{Digest, Sha256};

pub(crate) use authorization::Authorization;
pub(crate) use verify::{check_date, verify};

use crate::state::random::hex;

/// The only scheme accepted.
const SCHEME: &str = "ACS3-HMAC-SHA256";

/// The SHA-256 of `bytes` in hex.
fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
