//! `ResponseType = 0`: the GetSecretValue response of KMS, unchanged.

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, Method};
use kms_agent_core::SecretValue;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    AgentTimes, Format, ReadError, RequestedSecret, SecretBytes, string_bytes, string_member,
    text_member,
};
use crate::error::ApiError;
use crate::query::{self, SecretQuery};
use crate::response::{FullResponse, encode};

/// `Accept` header of a request for a secret that asks for the format of KMS, whatever `Server.ResponseType` is. Only
/// that format has every value byte for byte.
pub const KMS_MEDIA_TYPE: &str = "application/vnd.alibabacloud-kms+json";

pub(super) fn is_requested(request: &HeaderMap) -> bool {
    request
        .get(ACCEPT)
        .is_some_and(|accept| accept == KMS_MEDIA_TYPE)
}

#[derive(Debug)]
pub(super) struct Kms;

impl Format for Kms {
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

    fn shows_region(&self) -> bool {
        false
    }

    /// The connection borrows the value without a copy and drops it once it is sent.
    fn body(&self, value: SecretValue, _requested: RequestedSecret<'_>) -> Result<Bytes, ApiError> {
        struct Lent(SecretValue);
        impl AsRef<[u8]> for Lent {
            fn as_ref(&self) -> &[u8] {
                self.0.expose()
            }
        }
        Ok(Bytes::from_owner(Lent(value)))
    }

    /// `{"Code", "Message", "RequestId"}`, the last one when KMS gave one.
    fn error(&self, error: &ApiError) -> Bytes {
        encode(&KmsErrorBody {
            code: &error.code,
            message: &error.message,
            request_id: error.request_id.as_deref(),
        })
    }

    fn read_value(&self, body: &RawValue) -> Option<Result<SecretBytes, ReadError>> {
        Some(string_bytes(string_member(body, "SecretData")?))
    }

    fn read_error(&self, body: &RawValue) -> Option<(String, String)> {
        Some((text_member(body, "Code")?, text_member(body, "Message")?))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct KmsErrorBody<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}
