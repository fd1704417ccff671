//! Signatures of the OpenAPI gateway, version 3 (`ACS3-HMAC-SHA256`): pure and synchronous.

mod canonical;
#[cfg(test)]
mod vector;

use zeroize::Zeroizing;

use self::canonical::{canonical_headers, canonical_request, signed_headers};
pub(crate) use self::canonical::{encode, encode_pairs};
use crate::gateway::Credential;
use crate::host::digest::{hmac_hex, sha256_hex};

const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// A call of an RPC-style API, before it is signed. RPC calls are all `POST /`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallToSign<'a> {
    /// The host as it is sent: with its port where that is not the default.
    pub(crate) host: &'a str,
    pub(crate) action: &'a str,
    pub(crate) version: &'a str,
    /// Decoded parameters.
    pub(crate) query: &'a [(&'a str, &'a str)],
    /// The type of the body, where there is one.
    pub(crate) content_type: Option<&'a str>,
    pub(crate) body: &'a [u8],
}

/// Parts that must differ between two requests of the same call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallStamp<'a> {
    /// `YYYY-MM-DDTHH:MM:SSZ`.
    pub(crate) date: &'a str,
    /// Never used before.
    pub(crate) nonce: &'a str,
}

/// A signed call: what goes on the wire.
pub(crate) struct Signed {
    /// The query string, encoded the way it was signed.
    pub(crate) query: String,
    /// Every header that was signed, and the signature.
    pub(crate) headers: Vec<(&'static str, Zeroizing<String>)>,
}

/// Returns 32 hexadecimal digits that are never used again; `None` without randomness.
pub(crate) fn nonce() -> Option<String> {
    let (high, low) = (getrandom::u64().ok()?, getrandom::u64().ok()?);
    Some(format!("{high:016x}{low:016x}"))
}

/// Signs `call` as `credential`.
pub(crate) fn sign(call: CallToSign<'_>, credential: &Credential, stamp: CallStamp<'_>) -> Signed {
    let body_hash = sha256_hex(call.body);
    let mut headers = vec![
        ("host", own(call.host)),
        ("x-acs-action", own(call.action)),
        ("x-acs-content-sha256", own(&body_hash)),
        ("x-acs-date", own(stamp.date)),
        ("x-acs-signature-nonce", own(stamp.nonce)),
        ("x-acs-version", own(call.version)),
    ];
    if let Some(content_type) = call.content_type {
        headers.push(("content-type", own(content_type)));
    }
    if let Some(token) = credential.security_token() {
        headers.push(("x-acs-accesskey-id", own(credential.access_key_id())));
        headers.push(("x-acs-security-token", own(token)));
    }
    headers.sort_unstable_by_key(|(name, _)| *name);

    let query = encode_pairs(call.query);
    let names = signed_headers(&headers);
    let request = canonical_request(&query, &canonical_headers(&headers), &names, &body_hash);
    let to_sign = format!("{ALGORITHM}\n{}", sha256_hex(request.as_bytes()));
    let signature = hmac_hex(
        credential.access_key_secret().as_bytes(),
        to_sign.as_bytes(),
    );
    headers.push((
        "authorization",
        Zeroizing::new(format!(
            "{ALGORITHM} Credential={},SignedHeaders={names},Signature={signature}",
            credential.access_key_id()
        )),
    ));
    Signed {
        query: query.to_string(),
        headers,
    }
}

fn own(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}
