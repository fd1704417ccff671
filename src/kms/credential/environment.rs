use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::key::Credential;
use super::provider::{CredentialError, CredentialProvider, Obtained};
use crate::environment::Environment;

pub(super) const NAME: &str = "environment";

const KEY_ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
const KEY_SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
const TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";

/// A key that stands in the environment, with a security token or without.
pub(super) struct EnvironmentProvider(Credential);

/// Whether the environment names a key, be it half of one.
pub(super) fn is_configured(environment: &Environment) -> bool {
    environment.given(KEY_ID).is_some() || environment.given(KEY_SECRET).is_some()
}

impl EnvironmentProvider {
    pub(super) fn parse(environment: &Environment) -> Result<Self, CredentialError> {
        let half = |set, unset| {
            CredentialError::new(format!(
                "credentials from the environment: {set} is set, but {unset} is not; set both or neither"
            ))
        };
        match (environment.given(KEY_ID), environment.given(KEY_SECRET)) {
            (Some(id), Some(secret)) => {
                let credential = Credential::new(id, secret);
                Ok(Self(match environment.given(TOKEN) {
                    Some(token) => credential.with_security_token(token),
                    None => credential,
                }))
            }
            (Some(_), None) => Err(half(KEY_ID, KEY_SECRET)),
            (None, Some(_)) => Err(half(KEY_SECRET, KEY_ID)),
            (None, None) => Err(CredentialError::new(format!(
                "credentials from the environment: set {KEY_ID} and {KEY_SECRET}"
            ))),
        }
    }
}

impl fmt::Debug for EnvironmentProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EnvironmentProvider").field(&self.0).finish()
    }
}

#[async_trait]
impl CredentialProvider for EnvironmentProvider {
    fn name(&self) -> &'static str {
        NAME
    }

    fn identity(&self) -> Option<Arc<str>> {
        Some(self.0.access_key_id().into())
    }

    fn renewable(&self) -> bool {
        false
    }

    async fn obtain(&self) -> Result<Obtained, CredentialError> {
        Ok(Obtained {
            credential: self.0.clone(),
            identity: self.0.access_key_id().into(),
            issuer_time: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<EnvironmentProvider, CredentialError> {
        let environment = variables.iter().copied().collect();
        assert_eq!(is_configured(&environment), !variables.is_empty());
        EnvironmentProvider::parse(&environment)
    }

    #[tokio::test]
    async fn a_key_is_taken_with_or_without_a_token() {
        let provider = parse(&[(KEY_ID, "LTAI"), (KEY_SECRET, "hunter2")]).expect("a key");
        assert_eq!(provider.identity().as_deref(), Some("LTAI"));
        let obtained = provider.obtain().await.expect("a credential");
        assert_eq!(obtained.credential.access_key_secret(), "hunter2");
        assert_eq!(obtained.credential.security_token(), None);
        assert!(!format!("{provider:?} {obtained:?}").contains("hunter2"));

        let provider = parse(&[(KEY_ID, "STS.x"), (KEY_SECRET, "s"), (TOKEN, "t0k")]);
        let obtained = provider.expect("a key").obtain().await.expect("obtained");
        assert_eq!(obtained.credential.security_token(), Some("t0k"));
    }

    #[test]
    fn half_a_key_is_an_error_that_names_the_other_half_and_no_value() {
        for (given, missing) in [(KEY_ID, KEY_SECRET), (KEY_SECRET, KEY_ID)] {
            let error = parse(&[(given, "hunter2")]).expect_err("half a key");
            let text = error.to_string();
            assert!(text.contains(&format!("{missing} is not")), "{text}");
            assert!(!text.contains("hunter2"));
        }
        assert!(parse(&[]).is_err());
    }
}
