//! A secret's value out of an agent's answer, and members of it, with every byte as it is written there.

mod member;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

pub(super) use self::member::member;
use self::member::{last_member, parse, text};
use crate::exit::Failure;

/// The secret's value out of an answer, in whichever of the three forms the agent answered.
pub(super) fn of(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let no_answer = || Failure::failed("the process on this port did not answer as the agent does");
    let body = std::str::from_utf8(body)
        .ok()
        .and_then(parse)
        .ok_or_else(no_answer)?;
    for name in ["SecretData", "SecretString"] {
        if let Some(value) = last_member(body, name).filter(|value| is_string(value)) {
            return text(value).map(into_bytes).ok_or_else(not_text);
        }
    }
    if let Some(value) = last_member(body, "SecretBinary").and_then(text) {
        return STANDARD
            .decode(value.as_bytes())
            .map(Zeroizing::new)
            .map_err(|_| no_answer());
    }
    let data = last_member(body, "data")
        .and_then(|data| last_member(data, "data"))
        .ok_or_else(no_answer)?;
    match wrapped(data) {
        Some(value) => text(value).map(into_bytes).ok_or_else(not_text),
        None => Ok(Zeroizing::new(data.get().as_bytes().to_vec())),
    }
}

/// The value in the wrapper that ResponseType 2 puts around one that is not a JSON object: exactly `{"value":"…"}`. An
/// agent that knows [`kms_agent_server::KMS_MEDIA_TYPE`] is not asked for this form, in which a secret that reads
/// like the wrapper is taken for it.
fn wrapped(data: &RawValue) -> Option<&RawValue> {
    let value = last_member(data, "value").filter(|value| is_string(value))?;
    let inner = data.get().strip_prefix(r#"{"value":"#)?.strip_suffix('}')?;
    (inner == value.get()).then_some(value)
}

fn is_string(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

fn into_bytes(text: Zeroizing<String>) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}

fn not_text() -> Failure {
    Failure::failed(
        "the value is not text: it has half of a surrogate pair, which no encoding can express",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(body: &str) -> Option<String> {
        let value = of(body.as_bytes()).ok()?;
        Some(String::from_utf8(value.to_vec()).unwrap())
    }

    #[test]
    fn an_answer_of_each_form_gives_the_value_byte_for_byte() {
        for (body, value) in [
            (r#"{"SecretData":"a\u00e9\n"}"#, "aé\n"),
            (
                r#"{"SecretData":"{\"n\": 1.10, \"n\": 1e400}\n"}"#,
                "{\"n\": 1.10, \"n\": 1e400}\n",
            ),
            (r#"{"Other":1e400,"SecretString":"x","Deep":[[[]]]}"#, "x"),
            (r#"{"SecretBinary":"AAEC"}"#, "\0\u{1}\u{2}"),
            (r#"{"data":{"data":{"value":"x"}}}"#, "x"),
            (r#"{"data":{"data":{"value": "x"}}}"#, r#"{"value": "x"}"#),
            (
                r#"{"data":{"data":{"value":{"k":1}}}}"#,
                r#"{"value":{"k":1}}"#,
            ),
            (
                r#"{"data":{"data":{"value":"x","a":1}}}"#,
                r#"{"value":"x","a":1}"#,
            ),
            (
                r#"{"data":{"data":{"z":1.10,"a":12345678901234567890123}}}"#,
                r#"{"z":1.10,"a":12345678901234567890123}"#,
            ),
        ] {
            assert_eq!(value_of(body).as_deref(), Some(value), "{body}");
        }
        for body in [
            "",
            "healthy",
            "[]",
            "{}",
            r#"{"data":1}"#,
            r#"{"SecretData":"\ud800"}"#,
        ] {
            assert_eq!(value_of(body), None, "{body}");
        }
    }
}
