use std::sync::Arc;

use async_trait::async_trait;

use super::provider::{CredentialError, CredentialProvider, Obtained, Origin};
use super::sts::Gateway;
use crate::host::Environment;

const SESSION_NAME: &str = "ALIBABA_CLOUD_ROLE_SESSION_NAME";

/// Default life of a role's credentials.
const DURATION_SECONDS: u32 = 3600;

/// A role to be assumed, and how.
#[derive(Debug)]
pub(super) struct Role {
    pub(super) arn: Arc<str>,
    session_name: String,
    duration_seconds: String,
    policy: Option<String>,
    external_id: Option<String>,
}

/// Options of a role.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoleOptions<'a> {
    pub(super) session_name: Option<&'a str>,
    pub(super) duration_seconds: Option<u32>,
    pub(super) policy: Option<&'a str>,
    pub(super) external_id: Option<&'a str>,
}

impl Role {
    pub(super) fn new(arn: &str, wish: RoleOptions<'_>, environment: &Environment) -> Self {
        let session_name = wish
            .session_name
            .or_else(|| environment.given(SESSION_NAME));
        Self {
            arn: arn.into(),
            session_name: session_name.map_or_else(drawn_session_name, str::to_owned),
            duration_seconds: wish
                .duration_seconds
                .unwrap_or(DURATION_SECONDS)
                .to_string(),
            policy: wish.policy.map(str::to_owned),
            external_id: wish.external_id.map(str::to_owned),
        }
    }

    /// Parameters of the request to STS.
    pub(super) fn parameters(&self) -> Vec<(&'static str, &str)> {
        let mut parameters = vec![
            ("RoleArn", &*self.arn),
            ("RoleSessionName", &*self.session_name),
            ("DurationSeconds", &*self.duration_seconds),
        ];
        let optional = [("Policy", &self.policy), ("ExternalId", &self.external_id)];
        for (name, value) in optional {
            parameters.extend(value.as_deref().map(|value| (name, value)));
        }
        parameters
    }
}

/// Tells the agents of one role apart in the audit trail.
fn drawn_session_name() -> String {
    let random = getrandom::u32().unwrap_or_default();
    format!("kms-agent-{random:08x}")
}

/// A role that is assumed with the credentials of another provider.
#[derive(Debug)]
pub(super) struct RoleProvider {
    pub(super) name: &'static str,
    pub(super) origin: Origin,
    pub(super) source: Box<dyn CredentialProvider>,
    pub(super) gateway: Gateway,
    pub(super) role: Role,
}

#[async_trait]
impl CredentialProvider for RoleProvider {
    fn name(&self) -> &'static str {
        self.name
    }

    fn identity(&self) -> Option<Arc<str>> {
        Some(Arc::clone(&self.role.arn))
    }

    fn renewable(&self) -> bool {
        true
    }

    async fn obtain(&self) -> Result<Obtained, CredentialError> {
        let caller = self.source.obtain().await?.credential;
        self.gateway
            .assume_role(&self.role, &caller)
            .await
            .map_err(|what| self.origin.error(what))
    }

    async fn changed(&self) {
        self.source.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_options_come_from_the_profile_the_environment_or_defaults() {
        let said = |wish, variables: &[(&str, &str)]| {
            let environment = variables.iter().copied().collect();
            let role = Role::new("acs:ram::1:role/a", wish, &environment);
            role.parameters()
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join("&")
        };
        let plain = said(RoleOptions::default(), &[]);
        let (rest, drawn) = plain.split_once("kms-agent-").expect("a drawn name");
        assert_eq!(rest, "RoleArn=acs:ram::1:role/a&RoleSessionName=");
        assert_eq!(drawn.len(), 8 + "&DurationSeconds=3600".len());

        let told = [(SESSION_NAME, "me")];
        assert!(said(RoleOptions::default(), &told).contains("RoleSessionName=me&"));
        let wish = RoleOptions {
            session_name: Some("you"),
            duration_seconds: Some(900),
            policy: Some("{}"),
            external_id: Some("x"),
        };
        assert_eq!(
            said(wish, &told),
            "RoleArn=acs:ram::1:role/a&RoleSessionName=you&DurationSeconds=900&Policy={}&ExternalId=x"
        );
    }
}
