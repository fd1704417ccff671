//! GenerateDataKey and Decrypt of KMS.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::StatusCode;
use serde_json::json;
use sha2::Sha256;

use super::kms::{invalid, missing};
use crate::sign;
use crate::state::Services;
use crate::state::random::hex;
use crate::wire::answer::ServiceAnswer;
use crate::wire::inbound::Inbound;
use crate::wire::refusal::ServiceRefusal;

/// Key of every ciphertext, the same in each run, so that a data key outlives a restart of the emulator.
const ROOT_KEY: &[u8] = b"kms-agent-emulator";

/// Bytes of the only kind of key that is made.
const KEY_BYTES: usize = 32;

/// Part of every ciphertext but its checksum: the id of its key, and a random text.
struct Seed<'a> {
    key_id: &'a str,
    drawn: &'a str,
    context: &'a str,
}

impl Seed<'_> {
    /// Returns the data key. It follows from the ciphertext, so that nothing is stored.
    fn key(&self) -> Vec<u8> {
        self.mac("key")
    }

    fn ciphertext(&self) -> String {
        let checksum = hex(&self.mac("checksum"));
        STANDARD.encode(format!("{}|{}|{checksum}", self.key_id, self.drawn))
    }

    fn mac(&self, purpose: &str) -> Vec<u8> {
        // A key of any length is accepted.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(ROOT_KEY) else {
            return Vec::new();
        };
        for part in [purpose, self.key_id, self.drawn, self.context] {
            mac.update(part.as_bytes());
            mac.update(b"|");
        }
        mac.finalize().into_bytes().to_vec()
    }
}

/// Answers a request for a data key. Every key exists; an ARN names one of this region.
pub(crate) fn generate(
    shared: &Services,
    request: &Inbound,
    request_id: &str,
) -> Result<ServiceAnswer, ServiceRefusal> {
    sign::verify(request, &mut shared.state())?;
    let asked = request.given("KeyId").ok_or_else(|| missing("KeyId"))?;
    let key_id = key_id(shared, asked)?;
    let context = context(request)?;
    let size = match (request.given("KeySpec"), request.given("NumberOfBytes")) {
        (None | Some("AES_256"), None) => KEY_BYTES,
        (None, Some(text)) => text.parse().map_err(|_| invalid("NumberOfBytes"))?,
        _ => return Err(invalid("KeySpec")),
    };
    if size != KEY_BYTES {
        return Err(invalid("NumberOfBytes"));
    }
    let seed = Seed {
        key_id,
        drawn: &shared.draw.hex(32),
        context: &context,
    };
    let body = json!({
        "KeyId": key_id,
        "KeyVersionId": "00000000-0000-0000-0000-000000000001",
        "CiphertextBlob": seed.ciphertext(),
        "Plaintext": STANDARD.encode(seed.key()),
        "RequestId": request_id,
    });
    Ok(ServiceAnswer::json(StatusCode::OK, &body))
}

/// Answers a request to decrypt a data key.
pub(crate) fn decrypt(
    shared: &Services,
    request: &Inbound,
    request_id: &str,
) -> Result<ServiceAnswer, ServiceRefusal> {
    sign::verify(request, &mut shared.state())?;
    let blob = request
        .given("CiphertextBlob")
        .ok_or_else(|| missing("CiphertextBlob"))?;
    let context = context(request)?;
    let refused = || invalid("CiphertextBlob");
    let text = STANDARD.decode(blob).map_err(|_| refused())?;
    let text = String::from_utf8(text).map_err(|_| refused())?;
    let mut parts = text.split('|');
    let (Some(key_id), Some(drawn)) = (parts.next(), parts.next()) else {
        return Err(refused());
    };
    let seed = Seed {
        key_id,
        drawn,
        context: &context,
    };
    if seed.ciphertext() != blob {
        return Err(refused());
    }
    let body = json!({
        "KeyId": key_id,
        "KeyVersionId": "00000000-0000-0000-0000-000000000001",
        "Plaintext": STANDARD.encode(seed.key()),
        "RequestId": request_id,
    });
    Ok(ServiceAnswer::json(StatusCode::OK, &body))
}

/// Returns the id in an id or an ARN.
fn key_id<'a>(shared: &Services, asked: &'a str) -> Result<&'a str, ServiceRefusal> {
    let not_found = || {
        ServiceRefusal::kms(
            404,
            "Forbidden.KeyNotFound",
            "The specified Key is not found.",
        )
    };
    let id = match asked.strip_prefix("acs:kms:") {
        None => asked,
        Some(rest) => {
            let (region, rest) = rest.split_once(':').ok_or_else(not_found)?;
            let (_, id) = rest.split_once(":key/").ok_or_else(not_found)?;
            if region != shared.region {
                return Err(not_found());
            }
            id
        }
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/".contains(&byte);
    if id.is_empty() || !id.bytes().all(allowed) {
        return Err(not_found());
    }
    Ok(id)
}

/// Returns `EncryptionContext`, an object of text, in a form that is the same for each order of its members.
fn context(request: &Inbound) -> Result<String, ServiceRefusal> {
    let Some(text) = request.given("EncryptionContext") else {
        return Ok(String::new());
    };
    let members: std::collections::BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|_| invalid("EncryptionContext"))?;
    Ok(json!(members).to_string())
}
