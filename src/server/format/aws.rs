//! `ResponseType = 1`: the form of AWS Secrets Manager's `GetSecretValue`.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use kms_agent_core::SecretValue;
use serde::Serialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::kms_response::KmsResponse;
use super::{
    AgentTimes, Format, ReadError, RequestedSecret, SecretBytes, string_bytes, string_member,
    text_member,
};
use crate::error::ApiError;
use crate::member;
use crate::query::{self, SecretQuery};
use crate::response::{FullResponse, encode};

#[derive(Debug)]
pub(super) struct Aws;

impl Format for Aws {
    fn preflight(
        &self,
        _path: &str,
        _times: AgentTimes<'_>,
    ) -> Option<Result<FullResponse, ApiError>> {
        None
    }

    fn parse_path(&self, path: &str, query: &str) -> Result<SecretQuery, ApiError> {
        query::parse_path(path, query)
    }

    fn refuse_method(&self, _method: &Method) -> Option<ApiError> {
        None
    }

    /// `ARN` names it.
    fn shows_region(&self) -> bool {
        true
    }

    fn body(&self, value: SecretValue, requested: RequestedSecret<'_>) -> Result<Bytes, ApiError> {
        body(&value, requested)
    }

    /// `{"__type", "message"}`
    fn error(&self, error: &ApiError) -> Bytes {
        encode(&AwsErrorBody {
            kind: &error.code,
            message: &error.message,
        })
    }

    fn read_value(&self, body: &RawValue) -> Option<Result<SecretBytes, ReadError>> {
        if let Some(value) = string_member(body, "SecretString") {
            return Some(string_bytes(value));
        }
        let text = member::text(member::last_member(body, "SecretBinary")?)?;
        let bytes = STANDARD.decode(text.as_bytes()).map(Zeroizing::new);
        Some(bytes.map_err(|_| ReadError::NotAResponse))
    }

    fn read_error(&self, body: &RawValue) -> Option<(String, String)> {
        Some((text_member(body, "__type")?, text_member(body, "message")?))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AwsBody<'a> {
    #[serde(rename = "ARN")]
    arn: Cow<'a, str>,
    name: &'a str,
    version_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_string: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_binary: Option<&'a str>,
    version_stages: Vec<&'a str>,
    created_date: i64,
}

/// Returns the secret; a binary one as base64 of the bytes that KMS gave.
fn body(value: &SecretValue, requested: RequestedSecret<'_>) -> Result<Bytes, ApiError> {
    let parsed = KmsResponse::parse(value)?;
    let binary = if parsed.is_binary() {
        Some(Zeroizing::new(STANDARD.encode(parsed.value()?.as_bytes())))
    } else {
        None
    };
    let arn = match requested.id.arn() {
        Some(_) => Cow::Borrowed(requested.id.as_str()),
        None => Cow::Owned(format!(
            "acs:kms:{}::secret/{}",
            requested.region.unwrap_or_default(),
            parsed.secret_name
        )),
    };
    Ok(encode(&AwsBody {
        arn,
        name: &parsed.secret_name,
        version_id: &parsed.version_id,
        secret_string: binary.is_none().then_some(parsed.secret_data),
        secret_binary: binary.as_deref().map(String::as_str),
        version_stages: parsed
            .stages()
            .iter()
            .map(|stage| stage_name(stage))
            .collect(),
        created_date: parsed.created_at(),
    }))
}

fn stage_name(stage: &str) -> &str {
    match stage {
        "ACSCurrent" => "AWSCURRENT",
        "ACSPrevious" => "AWSPREVIOUS",
        other => other,
    }
}

#[derive(Serialize)]
struct AwsErrorBody<'a> {
    #[serde(rename = "__type")]
    kind: &'a str,
    message: &'a str,
}
