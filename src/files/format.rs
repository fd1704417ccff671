//! Formats of a file that holds one secret.

mod env;
mod json;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use kms_agent_core::Secret;
use kms_agent_core::member::{self, MemberError};
use zeroize::Zeroizing;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Format of a file that holds one secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// The value, byte for byte.
    Raw,
    /// The bytes that the value encodes in Base64.
    Base64,
    /// One member of a JSON value.
    Field(String),
    /// A JSON value with one member a line.
    Json,
    /// Members of a JSON object as variables: those named, or all if none is named.
    Env(Vec<String>),
}

/// Reason why a file cannot be made of the values. No text contains a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The value has half of a surrogate pair.
    #[error(
        "the value is not text: it has half of a surrogate pair, which no encoding can express"
    )]
    NotText,
    /// The value is not Base64.
    #[error("the value is not Base64")]
    NotBase64,
    /// The value is not JSON.
    #[error("the value is not JSON")]
    NotJson,
    /// The value is not a JSON object.
    #[error("the value is not a JSON object")]
    NotAnObject,
    /// The value has more levels than the agent formats.
    #[error("the value has more than 128 levels")]
    TooDeep,
    /// The value has no such member, or the member is not text.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// The name of the member is not an identifier.
    #[error(
        "the member {0} cannot be a variable: a name has letters, digits and underscores, and does not begin with a digit"
    )]
    VariableName(String),
    /// The member has a character that a shell, systemd or Docker would change.
    #[error("the member {0} has a control character that no environment file can hold")]
    VariableValue(String),
    /// The template cannot be rendered.
    #[error("the template cannot be rendered: {0}")]
    Template(String),
}

/// Returns the value in the GetSecretValue answer of `secret`.
pub fn value(secret: &Secret) -> Result<Zeroizing<String>, RenderError> {
    str::from_utf8(secret.answer.expose())
        .ok()
        .and_then(member::parse)
        .and_then(|answer| member::text(member::last_member(answer, "SecretData")?))
        .ok_or(RenderError::NotText)
}

impl Format {
    /// Returns the content of a file for `value`.
    pub fn render(&self, value: &str) -> Result<Zeroizing<Vec<u8>>, RenderError> {
        match self {
            Self::Raw => Ok(Zeroizing::new(value.as_bytes().to_vec())),
            Self::Base64 => decode(value),
            Self::Field(field) => Ok(member::member(value.as_bytes(), field)?),
            Self::Json => json::pretty(value),
            Self::Env(names) => env::render(value, names),
        }
    }
}

/// Decodes Base64; white space between its characters does not count.
fn decode(value: &str) -> Result<Zeroizing<Vec<u8>>, RenderError> {
    let mut text = Zeroizing::new(Vec::with_capacity(value.len()));
    text.extend(value.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    BASE64
        .decode_vec(&*text, &mut bytes)
        .map_err(|_| RenderError::NotBase64)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(format: Format, value: &str) -> Result<String, RenderError> {
        let bytes = format.render(value)?;
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn raw_is_the_value_and_base64_what_it_encodes() {
        assert_eq!(rendered(Format::Raw, "a\nü"), Ok("a\nü".to_owned()));
        for encoded in ["aGVsbG8=", "aGVsbG8", " aGVs\nbG8=\n"] {
            assert_eq!(rendered(Format::Base64, encoded), Ok("hello".to_owned()));
        }
        assert_eq!(
            rendered(Format::Base64, "hunter2!"),
            Err(RenderError::NotBase64)
        );
    }

    #[test]
    fn field_is_one_member_digit_for_digit() {
        let field = |name: &str| rendered(Format::Field(name.to_owned()), r#"{"a":{"b":1.10}}"#);
        assert_eq!(field("a.b"), Ok("1.10".to_owned()));
        let missing = field("a.c").unwrap_err().to_string();
        assert_eq!(missing, "the value has no member a.c");
    }
}
