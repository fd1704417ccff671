//! `ResponseType = 0`: what KMS says, as KMS says it.

use bytes::Bytes;
use kms_agent_core::Answer;
use serde::Serialize;

use super::lend;
use crate::error::ApiError;

/// The GetSecretValue answer, byte for byte.
pub(super) fn body(answer: Answer) -> Bytes {
    lend(answer.secret.answer)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorBody<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

/// `{"Code", "Message", "RequestId"}`, the last one when KMS gave one.
pub(super) fn error(error: &ApiError) -> Bytes {
    let body = ErrorBody {
        code: &error.code,
        message: &error.message,
        request_id: error.request_id.as_deref(),
    };
    // Three strings always serialize.
    serde_json::to_vec(&body).unwrap_or_default().into()
}
