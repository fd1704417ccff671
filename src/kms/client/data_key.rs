use std::collections::BTreeMap;

use async_trait::async_trait;
use kms_agent_core::data_key::{DecryptedKey, EncryptionContext, GeneratedKey, is_key};
use kms_agent_core::source::{Purpose, SendGate, SourceErrorKind};
use kms_agent_core::{DataKeySource, SourceError};
use zeroize::Zeroizing;

use super::KmsSource;
use super::call::{CallTerms, KmsCall};
use crate::gateway::error;
use crate::gateway::wire::{DataKeyAnswer, decode_data_key};

/// `GenerateDataKey`.
struct GenerateDataKey<'a> {
    key_id: &'a str,
    context: &'a str,
}

impl KmsCall for GenerateDataKey<'_> {
    type Answer = (DataKeyAnswer, String);

    const ACTION: &'static str = "GenerateDataKey";

    fn parameters(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("KeyId", self.key_id),
            ("KeySpec", "AES_256"),
            ("EncryptionContext", self.context),
        ]
    }

    fn read(&self, body: Zeroizing<Vec<u8>>) -> Result<Self::Answer, SourceError> {
        let mut answer = decode_data_key(&body).ok_or_else(|| error::not_kms(200))?;
        let ciphertext = answer.ciphertext.take();
        let ciphertext = ciphertext.ok_or_else(|| error::not_kms(200))?;
        if !is_key(self.key_id, &answer.key_id) {
            return Err(SourceError::new(
                SourceErrorKind::InvalidAnswer,
                "KMS made the data key under another key than the one asked for",
            ));
        }
        Ok((answer, ciphertext))
    }

    fn request_id((answer, _): &Self::Answer) -> Option<&str> {
        answer.request_id.as_deref()
    }
}

/// `Decrypt`, of a data key.
struct Decrypt<'a> {
    ciphertext: &'a str,
    context: &'a str,
}

impl KmsCall for Decrypt<'_> {
    type Answer = DataKeyAnswer;

    const ACTION: &'static str = "Decrypt";

    fn parameters(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("CiphertextBlob", self.ciphertext),
            ("EncryptionContext", self.context),
        ]
    }

    fn read(&self, body: Zeroizing<Vec<u8>>) -> Result<DataKeyAnswer, SourceError> {
        decode_data_key(&body).ok_or_else(|| error::not_kms(200))
    }

    fn request_id(answer: &DataKeyAnswer) -> Option<&str> {
        answer.request_id.as_deref()
    }
}

#[async_trait]
impl DataKeySource for KmsSource {
    async fn generate(
        &self,
        key_id: &str,
        context: &EncryptionContext<'_>,
    ) -> Result<GeneratedKey, SourceError> {
        let context = json(context);
        let call = GenerateDataKey {
            key_id,
            context: &context,
        };
        let (answer, ciphertext) = self.call_for_key(&call).await?;
        Ok(GeneratedKey {
            plaintext: answer.plaintext,
            ciphertext,
        })
    }

    async fn decrypt(
        &self,
        ciphertext: &str,
        context: &EncryptionContext<'_>,
    ) -> Result<DecryptedKey, SourceError> {
        let context = json(context);
        let call = Decrypt {
            ciphertext,
            context: &context,
        };
        let answer = self.call_for_key(&call).await?;
        Ok(DecryptedKey {
            plaintext: answer.plaintext,
            key_id: answer.key_id,
        })
    }
}

impl KmsSource {
    async fn call_for_key<C: KmsCall>(&self, call: &C) -> Result<C::Answer, SourceError> {
        let terms = CallTerms {
            purpose: Purpose::Read,
            arrived_at: self.clock.boot(),
            gate: &SendGate::default(),
        };
        match self.call(call, terms).await {
            Ok(answered) => Ok(answered.answer),
            Err(error) => Err(about_the_key(error)),
        }
    }
}

/// Says of a refusal that it is about the key and not about a secret.
fn about_the_key(error: SourceError) -> SourceError {
    match (error.kind(), error.refusal()) {
        (SourceErrorKind::Decision | SourceErrorKind::Refused, Some(refusal)) => SourceError::new(
            SourceErrorKind::Refused,
            "KMS refused the data key; check the key, and allow this identity kms:GenerateDataKey and kms:Decrypt on it",
        )
        .with_refusal(refusal.clone()),
        _ => error,
    }
}

/// The context as a JSON object, the form that KMS takes.
fn json(context: &EncryptionContext<'_>) -> String {
    let members: BTreeMap<_, _> = context.iter().copied().collect();
    serde_json::json!(members).to_string()
}
