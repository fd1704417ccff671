use kms_agent_core::{SecretRef, SourceError};
use zeroize::Zeroizing;

use super::call::KmsCall;
use crate::gateway::error;
use crate::gateway::wire::{self, GET_SECRET_VALUE, SecretAnswer};

/// `GetSecretValue`.
pub(super) struct GetSecretValue<'a> {
    pub(super) secret: &'a SecretRef,
    pub(super) extended_config: bool,
}

impl KmsCall for GetSecretValue<'_> {
    type Answer = SecretAnswer;

    const ACTION: &'static str = GET_SECRET_VALUE;

    fn parameters(&self) -> Vec<(&'static str, &str)> {
        let mut parameters = wire::parameters(self.secret);
        if self.extended_config {
            parameters.push(("FetchExtendedConfig", "true"));
        }
        parameters
    }

    fn read(&self, body: Zeroizing<Vec<u8>>) -> Result<SecretAnswer, SourceError> {
        match wire::decode(body) {
            Some(answer) if answer.is_for(self.secret) => Ok(answer),
            Some(_) => Err(error::mixed_up()),
            None => Err(error::not_kms(200)),
        }
    }

    fn request_id(answer: &SecretAnswer) -> Option<&str> {
        answer.request_id.as_deref()
    }
}
