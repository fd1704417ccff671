//! `ResponseType = 2`: the shape of a read from Vault's KV version 2 engine.

use std::collections::BTreeMap;

use bytes::Bytes;
use kms_agent_core::SecretValue;
use serde::Serialize;
use serde_json::value::RawValue;

use super::encode;
use super::parsed::Parsed;
use crate::error::ApiError;

#[derive(Serialize)]
struct Body<'a> {
    request_id: &'a str,
    lease_id: &'a str,
    renewable: bool,
    lease_duration: u32,
    data: Data<'a>,
    wrap_info: (),
    warnings: (),
    auth: (),
}

#[derive(Serialize)]
struct Data<'a> {
    data: Value<'a>,
    metadata: Metadata<'a>,
}

/// The members of a value that is a JSON object, or the value under one name.
#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Members(&'a RawValue),
    Whole { value: &'a RawValue },
}

#[derive(Serialize)]
struct Metadata<'a> {
    created_time: &'a str,
    #[serde(rename = "custom_metadata")]
    custom: BTreeMap<&'static str, String>,
    deletion_time: &'a str,
    destroyed: bool,
    version: u32,
}

/// The secret. KMS versions have no numbers, so every one is version 1 and tells its id beside it.
pub(super) fn body(value: &SecretValue) -> Result<Bytes, ApiError> {
    let parsed = Parsed::parse(value)?;
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
    Ok(encode(&Body {
        request_id: parsed.request_id.as_deref().unwrap_or_default(),
        lease_id: "",
        renewable: false,
        lease_duration: 0,
        data: Data {
            data: match object {
                Some(object) => Value::Members(object),
                None => Value::Whole {
                    value: parsed.secret_data,
                },
            },
            metadata: Metadata {
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

/// `{"errors": ["Code: Message"]}`
pub(super) fn error(error: &ApiError) -> Bytes {
    encode(&VaultErrorBody {
        errors: [format!("{}: {}", error.code, error.message)],
    })
}
