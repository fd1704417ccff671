use kms_agent_core::SecretRef;
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::answer::{SecretAnswer, decode};
use super::parse_object;
use super::text::Text;

/// A BatchGetSecretValue answer.
pub(crate) struct BatchAnswer {
    /// Each in the form of a GetSecretValue answer.
    values: Vec<SecretAnswer>,
    pub(crate) errors: Vec<EntryError>,
    pub(crate) request_id: Option<String>,
}

/// Refusal of one secret.
pub(crate) struct EntryError {
    secret_name: String,
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
}

/// The values are taken over as they came: reading them here would leave copies behind that no code wipes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BatchMembers<'a> {
    #[serde(borrow, default)]
    secret_values: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    errors: Option<Vec<ErrorMembers<'a>>>,
    #[serde(borrow, default)]
    request_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorMembers<'a> {
    #[serde(borrow)]
    secret_name: Text<'a>,
    #[serde(borrow)]
    code: Text<'a>,
    #[serde(default)]
    http_status: Option<u16>,
    #[serde(borrow, default)]
    message: Option<Text<'a>>,
}

/// The one member that decides whether an entry needs the id of the call.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OwnId<'a> {
    #[serde(borrow, default)]
    request_id: Option<&'a RawValue>,
}

impl BatchAnswer {
    /// Takes the answer to `question` out.
    pub(crate) fn take_value(&mut self, question: &SecretRef) -> Option<SecretAnswer> {
        let index = self
            .values
            .iter()
            .position(|answer| answer.is_for(question))?;
        Some(self.values.swap_remove(index))
    }

    /// The refusal of `question`.
    pub(crate) fn error(&self, question: &SecretRef) -> Option<&EntryError> {
        let id = &question.id;
        self.errors
            .iter()
            .find(|error| error.secret_name == id.as_str() || error.secret_name == id.name())
    }
}

/// Reads an answer; `None` when it is not one to BatchGetSecretValue. An entry that is not readable is left out.
pub(crate) fn decode_batch(body: &[u8]) -> Option<BatchAnswer> {
    let members: BatchMembers<'_> = parse_object(body)?;
    if members.secret_values.is_none() && members.errors.is_none() {
        return None;
    }
    let request_id = members.request_id.map(|id| id.to_owned());
    let values = members.secret_values.unwrap_or_default();
    let values = values
        .into_iter()
        .filter_map(|value| decode(entry(value.get(), request_id.as_deref())))
        .collect();
    let errors = members.errors.unwrap_or_default();
    let errors = errors
        .into_iter()
        .map(|error| EntryError {
            secret_name: error.secret_name.to_owned(),
            status: error.http_status.unwrap_or(400),
            code: error.code.to_owned(),
            message: error
                .message
                .map(|text| text.to_owned())
                .unwrap_or_default(),
        })
        .collect();
    Some(BatchAnswer {
        values,
        errors,
        request_id,
    })
}

/// The bytes of an entry, with the id of the call where it has none of its own.
fn entry(text: &str, request_id: Option<&str>) -> Zeroizing<Vec<u8>> {
    let has_own =
        parse_object::<OwnId<'_>>(text.as_bytes()).is_some_and(|own| own.request_id.is_some());
    let id = request_id.filter(|_| !has_own);
    let id = id
        .and_then(|id| serde_json::to_string(id).ok())
        .unwrap_or_default();
    // Grown once: a buffer that moves leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() + id.len() + 16));
    match text.trim_end().strip_suffix('}').filter(|_| !id.is_empty()) {
        Some(members) => {
            bytes.extend_from_slice(members.as_bytes());
            bytes.extend_from_slice(b",\"RequestId\":");
            bytes.extend_from_slice(id.as_bytes());
            bytes.push(b'}');
        }
        None => bytes.extend_from_slice(text.as_bytes()),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use kms_agent_core::{SecretId, VersionSelector};

    use super::*;

    fn question(id: &str) -> SecretRef {
        SecretRef {
            id: SecretId::parse(id).expect("an id"),
            selector: VersionSelector::CURRENT,
        }
    }

    #[test]
    fn each_entry_is_an_answer_of_its_own_with_the_id_of_the_call() {
        let text = r#"{"RequestId":"r-1","SecretValues":[
            {"SecretName":"a","VersionId":"v1","SecretData":"x\"y"},
            {"SecretName":"b","VersionId":"v2","SecretData":"z","RequestId":"r-2"},
            {"SecretName":"c"}],
            "Errors":[{"SecretName":"d","Code":"Forbidden.ResourceNotFound","HttpStatus":404,"Message":"no"}]}"#;
        let mut answer = decode_batch(text.as_bytes()).expect("an answer");
        let bytes = |answer: SecretAnswer| {
            String::from_utf8(answer.secret.answer.expose().to_vec()).expect("text")
        };
        assert_eq!(
            answer.take_value(&question("a")).map(bytes).as_deref(),
            Some(r#"{"SecretName":"a","VersionId":"v1","SecretData":"x\"y","RequestId":"r-1"}"#)
        );
        let b = answer.take_value(&question("acs:kms:cn-a:1:secret/b"));
        assert_eq!(
            b.map(bytes).as_deref(),
            Some(r#"{"SecretName":"b","VersionId":"v2","SecretData":"z","RequestId":"r-2"}"#)
        );
        for id in ["a", "c", "d"] {
            assert!(answer.take_value(&question(id)).is_none(), "{id}");
        }
        let error = answer.error(&question("d")).expect("an error");
        assert_eq!(
            (error.status, &*error.code),
            (404, "Forbidden.ResourceNotFound")
        );
        assert!(answer.error(&question("a")).is_none());
    }

    #[test]
    fn any_other_body_is_not_an_answer() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"SecretValues":{}}"#,
            r#"{"Code":"Oops"}"#,
        ] {
            assert!(decode_batch(text.as_bytes()).is_none(), "{text}");
        }
    }
}
