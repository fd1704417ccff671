//! `ResponseType = 0`: what KMS says, as KMS says it.

use bytes::Bytes;
use kms_agent_core::SecretValue;
use serde::Serialize;

use super::encode;
use crate::error::ApiError;

/// The GetSecretValue answer, byte for byte: lent to the connection without a copy, and given back when it
/// is sent.
pub(super) fn body(value: SecretValue) -> Bytes {
    struct Lent(SecretValue);
    impl AsRef<[u8]> for Lent {
        fn as_ref(&self) -> &[u8] {
            self.0.expose()
        }
    }
    Bytes::from_owner(Lent(value))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct KmsErrorBody<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

/// `{"Code", "Message", "RequestId"}`, the last one when KMS gave one.
pub(super) fn error(error: &ApiError) -> Bytes {
    encode(&KmsErrorBody {
        code: &error.code,
        message: &error.message,
        request_id: error.request_id.as_deref(),
    })
}
