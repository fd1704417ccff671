//! Response formats: the query form of the path route, the body, the error, and how a client reads both back.
//!
//! A format is one file here and one entry in [`FORMATS`].

mod aws;
mod kms;
mod kms_response;
mod part;
mod vault;

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method};
use kms_agent_cache::Answer;
use kms_agent_core::{SecretId, SecretValue, Timeline, Timestamp};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

pub use self::kms::KMS_MEDIA_TYPE;
use crate::error::ApiError;
use crate::member;
use crate::query::{RequestedPart, SecretQuery};
use crate::response::{self, FullResponse};

/// Every format, at the index that is its number in `Server.ResponseType`.
const FORMATS: [&dyn Format; 3] = [&kms::Kms, &aws::Aws, &vault::Vault];

/// A way to write secrets and errors on the two secret routes, and to read them.
trait Format: fmt::Debug + Sync {
    /// Answers a request below the path prefix that is not about a secret; `None` for one that is. The guard has
    /// already checked the token.
    fn preflight(
        &self,
        path: &str,
        times: AgentTimes<'_>,
    ) -> Option<Result<FullResponse, ApiError>>;

    /// Reads a request for a secret. `path` is the part after the path prefix.
    fn parse_path(&self, path: &str, query: &str) -> Result<SecretQuery, ApiError>;

    /// Returns the error for a method that the path route does not have, if it is another one than 405.
    fn refuse_method(&self, method: &Method) -> Option<ApiError>;

    /// Whether the body needs the region of a secret that is requested by name.
    fn shows_region(&self) -> bool;

    /// Returns the body that carries a secret. `value` is the KMS response.
    fn body(&self, value: SecretValue, requested: RequestedSecret<'_>) -> Result<Bytes, ApiError>;

    /// Returns the body that carries an error.
    fn error(&self, error: &ApiError) -> Bytes;

    /// Reads the value of a secret from a body; `None` if the body is not of this format.
    fn read_value(&self, body: &RawValue) -> Option<Result<SecretBytes, ReadError>>;

    /// Reads code and message from the body of an error; `None` if the body is not of this format.
    fn read_error(&self, body: &RawValue) -> Option<(String, String)>;
}

/// Bytes of a secret's value, wiped on drop.
pub type SecretBytes = Zeroizing<Vec<u8>>;

/// The secret that a response is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestedSecret<'a> {
    /// Id as the caller gave it.
    pub(crate) id: &'a SecretId,
    /// Region of the agent, once known.
    pub(crate) region: Option<&'a str>,
}

/// Times that describe the agent itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AgentTimes<'a> {
    pub(crate) timeline: &'a Timeline,
    pub(crate) started_at: Timestamp,
}

/// Reason why a response has no value to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The body is not of any format of the agent.
    #[error("the process on this port did not answer as the agent does")]
    NotAResponse,
    /// The value is a JSON string without a text.
    #[error(
        "the value is not text: it has half of a surrogate pair, which no encoding can express"
    )]
    NotText,
}

/// Format that `Server.ResponseType` sets for the secret routes.
#[derive(Clone, Copy, Debug)]
pub struct ResponseType(&'static dyn Format);

impl ResponseType {
    /// Format of KMS, in which every other route answers too.
    pub(crate) const KMS: Self = Self(&kms::Kms);

    /// Highest number of a format.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "there are only a few formats"
    )]
    pub(crate) const LAST: u32 = FORMATS.len() as u32 - 1;

    /// Returns the format with this number.
    pub(crate) fn numbered(number: u32) -> Option<Self> {
        let number = usize::try_from(number).ok()?;
        FORMATS.get(number).copied().map(Self)
    }

    /// Returns the format of a response: this one, unless the request accepts only that of KMS.
    pub(crate) fn negotiate(self, request: &HeaderMap) -> Self {
        if kms::is_requested(request) {
            Self::KMS
        } else {
            self
        }
    }

    pub(crate) fn preflight(
        self,
        path: &str,
        times: AgentTimes<'_>,
    ) -> Option<Result<FullResponse, ApiError>> {
        self.0.preflight(path, times)
    }

    pub(crate) fn parse_path(self, path: &str, query: &str) -> Result<SecretQuery, ApiError> {
        self.0.parse_path(path, query)
    }

    pub(crate) fn refuse_method(self, method: &Method) -> Option<ApiError> {
        self.0.refuse_method(method)
    }

    pub(crate) fn shows_region(self) -> bool {
        self.0.shows_region()
    }

    /// Returns the response that carries a secret. Of `headers`, those of the request, only the memory is used: it is
    /// large enough, and the connection reuses it for the next request.
    pub(crate) fn secret(
        self,
        requested: RequestedSecret<'_>,
        wanted: &RequestedPart,
        answer: Answer,
        headers: HeaderMap,
    ) -> Result<FullResponse, ApiError> {
        let value = match &wanted.field {
            None => answer.secret.answer,
            Some(field) => part::with_member(&answer.secret.answer, field)?,
        };
        let body = if wanted.is_value_alone {
            part::value_alone(&value)?
        } else {
            (self.0.body(value, requested)?, response::JSON)
        };
        Ok(response::secret(headers, body, answer.age, &answer.status))
    }

    /// Returns the response that carries an error.
    pub(crate) fn error(self, error: &ApiError) -> FullResponse {
        response::error(self.0.error(error), error)
    }
}

/// Reads the value of a secret from the body of an agent's response, in any format.
pub fn read_value(body: &[u8]) -> Result<SecretBytes, ReadError> {
    let body = parse(body).ok_or(ReadError::NotAResponse)?;
    let mut formats = FORMATS.iter();
    formats
        .find_map(|format| format.read_value(body))
        .unwrap_or(Err(ReadError::NotAResponse))
}

/// Reads code and message of an error from the body of an agent's response, in any format.
pub fn read_error(body: &[u8]) -> Option<(String, String)> {
    let body = parse(body)?;
    FORMATS.iter().find_map(|format| format.read_error(body))
}

fn parse(body: &[u8]) -> Option<&RawValue> {
    member::parse(str::from_utf8(body).ok()?)
}

/// Returns the bytes of a JSON string.
fn string_bytes(value: &RawValue) -> Result<SecretBytes, ReadError> {
    member::text(value)
        .map(|text| Zeroizing::new(text.as_bytes().to_vec()))
        .ok_or(ReadError::NotText)
}

/// Returns the member `name` if it is a JSON string.
fn string_member<'v>(object: &'v RawValue, name: &str) -> Option<&'v RawValue> {
    member::last_member(object, name).filter(|value| value.get().starts_with('"'))
}

/// Returns the text of the member `name`.
fn text_member(object: &RawValue, name: &str) -> Option<String> {
    let text = member::text(member::last_member(object, name)?)?;
    Some(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(body: &str) -> Option<String> {
        let value = read_value(body.as_bytes()).ok()?;
        Some(String::from_utf8(value.to_vec()).unwrap())
    }

    #[test]
    fn a_response_of_each_format_gives_the_value_byte_for_byte() {
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

    #[test]
    fn an_error_of_each_format_is_read_back() {
        let error = crate::error::Reject::InvalidToken.because("Send the token: once.");
        for format in FORMATS {
            let body = format.error(&error);
            let (code, message) = read_error(&body).unwrap();
            assert_eq!((code, message), (error.code.clone(), error.message.clone()));
        }
        for body in ["", "healthy", "[]", "{}", r#"{"errors":["x"]}"#] {
            assert_eq!(read_error(body.as_bytes()), None, "{body}");
        }
    }
}
