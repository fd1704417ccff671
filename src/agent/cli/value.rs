//! A secret's value, and parts of it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::exit::Failure;

/// The secret's value out of an answer, in whichever form the agent's ResponseType tells it.
pub(super) fn of(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let no_answer = || Failure::failed("what answered on this port is not the agent");
    let body: Value = serde_json::from_slice(body).map_err(|_| no_answer())?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    if let Some(value) = text("SecretData").or(text("SecretString")) {
        return Ok(Zeroizing::new(value.as_bytes().to_vec()));
    }
    if let Some(value) = text("SecretBinary") {
        return STANDARD
            .decode(value)
            .map(Zeroizing::new)
            .map_err(|_| no_answer());
    }
    match body.pointer("/data/data") {
        // How a value that is no object is told.
        Some(Value::Object(members)) if members.len() == 1 && members.contains_key("value") => {
            Ok(plain(members.get("value").unwrap_or(&Value::Null)))
        }
        Some(members) => Ok(plain(members)),
        None => Err(no_answer()),
    }
}

/// One member of a JSON value.
pub(super) fn member(value: &[u8], field: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let value: Value = serde_json::from_slice(value).map_err(|_| {
        Failure::failed(format!(
            "the field {field} needs a value that is JSON, and this one is not"
        ))
    })?;
    let mut found = &value;
    for name in field.split('.') {
        let next = match found {
            Value::Array(items) => name.parse().ok().and_then(|index: usize| items.get(index)),
            other => other.get(name),
        };
        found = next.ok_or_else(|| Failure::failed(format!("the value has no member {field}")))?;
    }
    Ok(plain(found))
}

/// Text as it is, anything else as JSON.
fn plain(value: &Value) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(match value {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    })
}
