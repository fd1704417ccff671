//! Parts of a secret in place of the whole response: one member of its value, and the value alone.

use bytes::Bytes;
use http::HeaderValue;
use kms_agent_core::SecretValue;
use zeroize::Zeroizing;

use super::kms_response::KmsResponse;
use crate::error::{ApiError, Reject};
use crate::member::{self, MemberError};
use crate::response;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Returns the KMS response `answer` with the member `field` of its value in place of the value.
pub(super) fn with_member(answer: &SecretValue, field: &str) -> Result<SecretValue, ApiError> {
    let parsed = KmsResponse::parse(answer)?;
    let value = parsed.value()?;
    let member = member_of(&value, field)?;
    let whole = answer.expose();
    // `secret_data` is a part of `whole`.
    let start = parsed.secret_data.get().as_ptr() as usize - whole.as_ptr() as usize;
    let end = start + parsed.secret_data.get().len();
    let (before, after) = (whole.get(..start), whole.get(end..));
    let quoted = response::encode_wiped(&*member);
    let parts = [
        before.unwrap_or_default(),
        &quoted,
        after.unwrap_or_default(),
    ];
    // In one step: a buffer that grows would leave copies behind.
    Ok(SecretValue::new(Zeroizing::new(parts.concat())))
}

fn member_of(value: &str, field: &str) -> Result<Zeroizing<String>, ApiError> {
    let not_object = || {
        Reject::InvalidParameter.because(
            "The secret's value is not a JSON object, so it has no fields; leave field out.",
        )
    };
    let text = value.strip_prefix('\u{feff}').unwrap_or(value);
    if !text.trim_start().starts_with('{') {
        return Err(not_object());
    }
    let bytes = member::member(value.as_bytes(), field).map_err(|error| match error {
        MemberError::NotJson(_) => not_object(),
        MemberError::Missing(_) => Reject::FieldNotFound
            .because("The secret's value has no such field; check its name, with dots between levels."),
        MemberError::NotText(_) => Reject::InvalidParameter.because(
            "The field is not text: it has half of a surrogate pair, which no encoding can express.",
        ),
    })?;
    // A member of a text is text.
    let text = str::from_utf8(&bytes).unwrap_or_default();
    Ok(Zeroizing::new(text.to_owned()))
}

/// Returns the value in the KMS response `answer`, unescaped, and its media type.
pub(super) fn value_alone(answer: &SecretValue) -> Result<(Bytes, HeaderValue), ApiError> {
    let parsed = KmsResponse::parse(answer)?;
    let kind = if parsed.is_binary() { BINARY } else { TEXT };
    Ok((response::wiped(parsed.value()?), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(value: &str) -> SecretValue {
        let value = serde_json::to_string(value).unwrap();
        let text = format!(
            r#"{{ "SecretName":"s","VersionId":"v","SecretData" : {value} ,"Other":1e400}}"#
        );
        SecretValue::new(Zeroizing::new(text.into_bytes()))
    }

    #[test]
    fn a_member_takes_the_place_of_the_value_and_nothing_else_changes() {
        for (value, field, expected) in [
            (r#"{"a":"x\u00e9\"\n","b":1}"#, "a", "xé\"\n"),
            (r#"{"a":{"b": [1.10, null]}}"#, "a.b", "[1.10, null]"),
            (r#"{"a.b":"dots","a":{"b":1}}"#, "a.b", "dots"),
            ("\u{feff} {\"a\":true}\n", "a", "true"),
        ] {
            let with = with_member(&answer(value), field).unwrap();
            assert_eq!(with.expose(), answer(expected).expose());
            let (body, kind) = value_alone(&with).unwrap();
            assert_eq!((&*body, kind), (expected.as_bytes(), TEXT));
        }
    }

    #[test]
    fn what_cannot_be_picked_is_an_error_that_repeats_nothing() {
        for (value, field, code) in [
            (r#"{"secret":1}"#, "b", "FieldNotFound"),
            (r#"{"secret":{"c":1}}"#, "secret.b", "FieldNotFound"),
            (r#"["secret"]"#, "0", "InvalidParameter"),
            ("secret", "a", "InvalidParameter"),
            ("", "a", "InvalidParameter"),
            (r#"{"a":1} secret"#, "a", "InvalidParameter"),
            (r#"{"a":"\ud800"}"#, "a", "InvalidParameter"),
        ] {
            let error = with_member(&answer(value), field).unwrap_err();
            assert_eq!(error.code, code, "{value}");
            assert!(!error.message.contains("\"secret"), "{value}");
        }
    }
}
