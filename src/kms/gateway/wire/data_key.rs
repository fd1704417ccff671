use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kms_agent_core::data_key::{DATA_KEY_BYTES, DataKeyBytes};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::parse_object;
use super::text::Text;

/// The longest ciphertext of a data key, in characters. That of KMS has about 200.
const MAX_CIPHERTEXT_CHARS: usize = 8 * 1024;

/// The longest key id or ARN, in characters.
const MAX_KEY_ID_CHARS: usize = 512;

/// A GenerateDataKey or Decrypt answer.
pub(crate) struct DataKeyAnswer {
    pub(crate) plaintext: DataKeyBytes,
    pub(crate) key_id: String,
    /// Only in an answer to GenerateDataKey.
    pub(crate) ciphertext: Option<String>,
    pub(crate) request_id: Option<String>,
}

/// The plaintext is read in place: a copy would be left behind that no code wipes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DataKeyMembers<'a> {
    #[serde(borrow)]
    plaintext: &'a RawValue,
    #[serde(borrow)]
    key_id: Text<'a>,
    #[serde(borrow, default)]
    ciphertext_blob: Option<Text<'a>>,
    #[serde(borrow, default)]
    request_id: Option<Text<'a>>,
}

/// Reads an answer; `None` for anything else. The reason is left out, since it would quote the answer.
pub(crate) fn decode_data_key(body: &[u8]) -> Option<DataKeyAnswer> {
    let members: DataKeyMembers<'_> = parse_object(body)?;
    let ciphertext = members.ciphertext_blob.map(|blob| blob.to_owned());
    let is_sized = |text: &str, limit| (1..=limit).contains(&text.len()) && text.is_ascii();
    if !is_sized(&members.key_id, MAX_KEY_ID_CHARS)
        || ciphertext
            .as_deref()
            .is_some_and(|blob| !is_sized(blob, MAX_CIPHERTEXT_CHARS))
    {
        return None;
    }
    Some(DataKeyAnswer {
        plaintext: key_bytes(members.plaintext.get())?,
        key_id: members.key_id.to_owned(),
        ciphertext,
        request_id: members.request_id.map(|id| id.to_owned()),
    })
}

/// The bytes in a JSON string of base64. A slash in it may be escaped.
fn key_bytes(json: &str) -> Option<DataKeyBytes> {
    let text = json.strip_prefix('"')?.strip_suffix('"')?;
    if text.len() > 4 * DATA_KEY_BYTES {
        return None;
    }
    let mut unescaped = Zeroizing::new(Vec::with_capacity(text.len()));
    unescaped.extend(text.bytes().filter(|byte| *byte != b'\\'));
    // The decoder wants room for whole groups of three bytes.
    let mut room = Zeroizing::new([0; DATA_KEY_BYTES.next_multiple_of(3)]);
    let length = STANDARD.decode_slice(&*unescaped, &mut *room).ok()?;
    let decoded = room.get(..length)?;
    let mut key = DataKeyBytes::default();
    if decoded.len() != key.len() {
        return None;
    }
    key.copy_from_slice(decoded);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_with_and_without_escaped_slashes() {
        for plaintext in [
            "////////////////////////////////////////".to_owned() + "//8=",
            "\\/".repeat(42) + "8=",
        ] {
            let text = format!(
                r#"{{"Plaintext":"{plaintext}","KeyId":"key-a","CiphertextBlob":"YmxvYg==","RequestId":"r"}}"#
            );
            let answer = decode_data_key(text.as_bytes()).expect("an answer");
            assert_eq!(*answer.plaintext, [255; DATA_KEY_BYTES]);
            assert_eq!(answer.key_id, "key-a");
            assert_eq!(answer.ciphertext.as_deref(), Some("YmxvYg=="));
        }
    }

    #[test]
    fn any_other_body_is_not_an_answer() {
        for text in [
            "",
            "[]",
            r#"{"KeyId":"key-a"}"#,
            r#"{"Plaintext":"AAAA","KeyId":"key-a"}"#,
            r#"{"Plaintext":5,"KeyId":"key-a"}"#,
            r#"{"Plaintext":"!!!!","KeyId":"key-a"}"#,
            r#"{"Plaintext":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","KeyId":""}"#,
        ] {
            assert!(decode_data_key(text.as_bytes()).is_none(), "{text}");
        }
    }
}
