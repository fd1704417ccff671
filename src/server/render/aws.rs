//! `ResponseType = 1`: the shape of AWS Secrets Manager's `GetSecretValue`.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use kms_agent_core::SecretValue;
use serde::Serialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::parsed::Parsed;
use super::{Question, encode};
use crate::error::ApiError;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
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

/// The secret; a binary one as base64 of the bytes that KMS gave.
pub(super) fn body(value: &SecretValue, question: Question<'_>) -> Result<Bytes, ApiError> {
    let parsed = Parsed::parse(value)?;
    let binary = if parsed.is_binary() {
        Some(Zeroizing::new(STANDARD.encode(parsed.value()?.as_bytes())))
    } else {
        None
    };
    let arn = match question.id.arn() {
        Some(_) => Cow::Borrowed(question.id.as_str()),
        None => Cow::Owned(format!(
            "acs:kms:{}::secret/{}",
            question.region.unwrap_or_default(),
            parsed.secret_name
        )),
    };
    Ok(encode(&Body {
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

/// `{"__type", "message"}`
pub(super) fn error(error: &ApiError) -> Bytes {
    encode(&AwsErrorBody {
        kind: &error.code,
        message: &error.message,
    })
}
