use kms_agent_core::SourceError;
use kms_agent_core::source::{BatchItem, MAX_BATCH};
use serde::Serialize;
use zeroize::Zeroizing;

use super::call::KmsCall;
use crate::gateway::error;
use crate::gateway::wire::{BatchAnswer, decode_batch, parameters};

/// `BatchGetSecretValue`.
pub(super) struct BatchGetSecretValue {
    /// `SecretsList`.
    list: String,
}

/// Entry of `SecretsList`.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    secret_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_stage: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fetch_extended_config: Option<&'a str>,
}

impl BatchGetSecretValue {
    pub(super) fn new(items: &[BatchItem]) -> Self {
        let entries: Vec<Entry<'_>> = items
            .iter()
            .take(MAX_BATCH)
            .map(|item| {
                let mut entry = Entry {
                    fetch_extended_config: item.extended_config.then_some("true"),
                    ..Entry::default()
                };
                for (name, value) in parameters(&item.secret) {
                    match name {
                        "SecretName" => entry.secret_name = value,
                        "VersionId" => entry.version_id = Some(value),
                        _ => entry.version_stage = Some(value),
                    }
                }
                entry
            })
            .collect();
        Self {
            list: serde_json::json!(entries).to_string(),
        }
    }
}

impl KmsCall for BatchGetSecretValue {
    type Answer = BatchAnswer;

    const ACTION: &'static str = "BatchGetSecretValue";

    fn parameters(&self) -> Vec<(&'static str, &str)> {
        vec![("SecretsList", &self.list)]
    }

    fn read(&self, body: Zeroizing<Vec<u8>>) -> Result<BatchAnswer, SourceError> {
        decode_batch(&body).ok_or_else(|| error::not_kms(200))
    }

    fn request_id(answer: &BatchAnswer) -> Option<&str> {
        answer.request_id.as_deref()
    }
}
