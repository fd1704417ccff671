//! `ResponseType = 2`: the form of a read from Vault's KV version 2 engine.

mod preflight;
mod query;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use kms_agent_core::SecretValue;
use serde::Serialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::kms_response::KmsResponse;
use super::{
    AgentTimes, Format, ReadError, RequestedSecret, SecretBytes, string_bytes, string_member,
};
use crate::error::{ApiError, Reject};
use crate::member;
use crate::query::SecretQuery;
use crate::response::{FullResponse, encode};

#[derive(Debug)]
pub(super) struct Vault;

impl Format for Vault {
    fn preflight(
        &self,
        path: &str,
        times: AgentTimes<'_>,
    ) -> Option<Result<FullResponse, ApiError>> {
        preflight::answer(path, times)
    }

    fn parse_path(&self, path: &str, query: &str) -> Result<SecretQuery, ApiError> {
        query::parse_path(path, query)
    }

    /// After 404 for LIST a Vault client goes on to read; after 405 it stops.
    fn refuse_method(&self, method: &Method) -> Option<ApiError> {
        (method.as_str() == "LIST").then(|| {
            Reject::UnknownPath.because("Secrets cannot be listed; read them by name with GET.")
        })
    }

    fn shows_region(&self) -> bool {
        false
    }

    fn body(&self, value: SecretValue, _requested: RequestedSecret<'_>) -> Result<Bytes, ApiError> {
        body(&value)
    }

    /// `{"errors": ["Code: Message"]}`
    fn error(&self, error: &ApiError) -> Bytes {
        encode(&VaultErrorBody {
            errors: [format!("{}: {}", error.code, error.message)],
        })
    }

    fn read_value(&self, body: &RawValue) -> Option<Result<SecretBytes, ReadError>> {
        let data = member::last_member(member::last_member(body, "data")?, "data")?;
        Some(match wrapped(data) {
            Some(value) => string_bytes(value),
            None => Ok(Zeroizing::new(data.get().as_bytes().to_vec())),
        })
    }

    fn read_error(&self, body: &RawValue) -> Option<(String, String)> {
        let errors = member::last_member(body, "errors")?;
        let first: Vec<String> = serde_json::from_str(errors.get()).ok()?;
        let (code, message) = first.first()?.split_once(": ")?;
        Some((code.to_owned(), message.to_owned()))
    }
}

/// Returns the value in the wrapper around one that is not a JSON object: exactly `{"value":"…"}`. A secret that reads
/// like the wrapper is taken for it, which is why clients ask for [`super::KMS_MEDIA_TYPE`].
fn wrapped(data: &RawValue) -> Option<&RawValue> {
    let value = string_member(data, "value")?;
    let inner = data.get().strip_prefix(r#"{"value":"#)?.strip_suffix('}')?;
    (inner == value.get()).then_some(value)
}

#[derive(Serialize)]
struct VaultBody<'a> {
    request_id: &'a str,
    lease_id: &'a str,
    renewable: bool,
    lease_duration: u32,
    data: VaultData<'a>,
    wrap_info: (),
    warnings: (),
    auth: (),
}

#[derive(Serialize)]
struct VaultData<'a> {
    data: VaultValue<'a>,
    metadata: VaultMetadata<'a>,
}

/// Members of a value that is a JSON object, or the value under one name.
#[derive(Serialize)]
#[serde(untagged)]
enum VaultValue<'a> {
    Members(&'a RawValue),
    Whole { value: &'a RawValue },
}

#[derive(Serialize)]
struct VaultMetadata<'a> {
    created_time: &'a str,
    #[serde(rename = "custom_metadata")]
    custom: BTreeMap<&'static str, String>,
    deletion_time: &'a str,
    destroyed: bool,
    version: u32,
}

/// Returns the secret. KMS versions have no numbers, so every one is version 1 with its id in `custom_metadata`.
fn body(value: &SecretValue) -> Result<Bytes, ApiError> {
    let parsed = KmsResponse::parse(value)?;
    let text = parsed.value()?;
    let object = serde_json::from_str::<&RawValue>(&text)
        .ok()
        .filter(|json| json.get().starts_with('{'));
    let custom = [
        ("secret_name", Some(parsed.secret_name.clone().into_owned())),
        ("secret_type", parsed.secret_type.clone().map(Into::into)),
        ("version_id", Some(parsed.version_id.clone().into_owned())),
        ("version_stages", Some(parsed.stages().join(","))),
    ];
    Ok(encode(&VaultBody {
        request_id: parsed.request_id.as_deref().unwrap_or_default(),
        lease_id: "",
        renewable: false,
        lease_duration: 0,
        data: VaultData {
            data: match object {
                Some(object) => VaultValue::Members(object),
                None => VaultValue::Whole {
                    value: parsed.secret_data,
                },
            },
            metadata: VaultMetadata {
                created_time: parsed.create_time.as_deref().unwrap_or_default(),
                custom: custom
                    .into_iter()
                    .filter_map(|(name, value)| Some((name, value?)))
                    .collect(),
                deletion_time: "",
                destroyed: false,
                version: 1,
            },
        },
        wrap_info: (),
        warnings: (),
        auth: (),
    }))
}

#[derive(Serialize)]
struct VaultErrorBody {
    errors: [String; 1],
}
