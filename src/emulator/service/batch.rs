//! BatchGetSecretValue of KMS.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::kms::{Asked, SecretValue, find, invalid, is_true, missing};
use crate::sign;
use crate::state::Services;
use crate::state::secret::Wanted;
use crate::wire::answer::ServiceAnswer;
use crate::wire::inbound::Inbound;
use crate::wire::refusal::ServiceRefusal;

/// Most secrets of a request.
const MAX_SECRETS: usize = 20;

/// Entry of `SecretsList`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    secret_name: Option<String>,
    version_id: Option<String>,
    version_stage: Option<String>,
    fetch_extended_config: Option<Value>,
}

/// Answers a request for the values of several secrets.
pub(crate) fn secret_values(
    shared: &Services,
    request: &Inbound,
    request_id: &str,
) -> Result<ServiceAnswer, ServiceRefusal> {
    let mut state = shared.state();
    sign::verify(request, &mut state)?;
    let list = request
        .given("SecretsList")
        .ok_or_else(|| missing("SecretsList"))?;
    let entries: Vec<Entry> = serde_json::from_str(list).map_err(|_| invalid("SecretsList"))?;
    if !(1..=MAX_SECRETS).contains(&entries.len()) {
        return Err(invalid("SecretsList"));
    }
    let mut values = Vec::new();
    let mut errors = Vec::new();
    for entry in &entries {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (id, label) = (given(&entry.version_id), given(&entry.version_stage));
        let asked = Asked {
            name: entry.secret_name.as_deref(),
            wanted: Wanted {
                version_id: id.as_deref(),
                stage: label.as_deref(),
            },
        };
        match find(shared, asked, &state.secrets) {
            Ok((name, reading)) => {
                let extended = match &entry.fetch_extended_config {
                    Some(Value::Bool(wanted)) => *wanted,
                    Some(Value::String(text)) => is_true(Some(text)),
                    _ => false,
                };
                values.push(json!(SecretValue::new(
                    name, &reading, extended, request_id
                )));
            }
            Err(refusal) => errors.push(json!({
                "SecretName": entry.secret_name,
                "Code": refusal.code,
                "HttpStatus": refusal.status,
                "Message": refusal.message,
            })),
        }
    }
    let body = json!({ "SecretValues": values, "Errors": errors, "RequestId": request_id });
    Ok(ServiceAnswer::json(StatusCode::OK, &body))
}
