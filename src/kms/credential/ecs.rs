use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::issued::{issuer_time, parse_flat};
use super::provider::{CredentialError, CredentialProvider, Obtained};
use crate::metadata::{self, Metadata, MetadataError};
use crate::sign::encode;

pub(super) const NAME: &str = "ecs_ram_role";

const ROLE_PATH: &str = "/latest/meta-data/ram/security-credentials/";

/// The RAM role that is attached to the ECS instance.
#[derive(Debug)]
pub(super) struct EcsRamRoleProvider {
    metadata: Metadata,
    /// As the operator names it; else the service is asked each time.
    role: Option<Arc<str>>,
}

impl EcsRamRoleProvider {
    pub(super) fn new(metadata: Metadata, role: Option<&str>) -> Self {
        Self {
            metadata,
            role: role.map(Arc::from),
        }
    }

    fn error(&self, what: &dyn fmt::Display) -> CredentialError {
        CredentialError::new(format!(
            "credentials of the ECS RAM role: the metadata service at {} was asked: {what}; attach a RAM role \
             to this instance, or configure another provider",
            self.metadata.authority()
        ))
    }

    fn failed(&self, error: MetadataError) -> CredentialError {
        match error {
            MetadataError::Status(404) => {
                self.error(&"no such RAM role is attached to this instance")
            }
            error => self.error(&error),
        }
    }
}

#[async_trait]
impl CredentialProvider for EcsRamRoleProvider {
    fn name(&self) -> &'static str {
        NAME
    }

    fn identity(&self) -> Option<Arc<str>> {
        self.role.clone()
    }

    fn renewable(&self) -> bool {
        true
    }

    async fn obtain(&self) -> Result<Obtained, CredentialError> {
        let session = self
            .metadata
            .open()
            .await
            .map_err(|error| self.failed(error))?;
        let role = if let Some(role) = &self.role {
            Arc::clone(role)
        } else {
            let response = session
                .get(ROLE_PATH)
                .await
                .map_err(|error| self.failed(error))?;
            metadata::text(&response)
                .map(|text| Arc::from(text.as_str()))
                .ok_or_else(|| self.error(&"it names no role"))?
        };
        let response = session
            .get(&format!("{ROLE_PATH}{}", encode(&role)))
            .await
            .map_err(|error| self.failed(error))?;
        Ok(Obtained {
            credential: parse_flat(&response.body).map_err(|what| self.error(&what))?,
            identity: role,
            issuer_time: issuer_time(&response),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;
    use crate::http::{HttpSend, Method};
    use crate::testing::{Script, answer};

    const TOKEN_URL: &str = "http://100.100.100.200/latest/api/token";
    const ROLES_URL: &str = "http://100.100.100.200/latest/meta-data/ram/security-credentials/";
    const BODY: &str = r#"{"Code":"Success","AccessKeyId":"STS.a","AccessKeySecret":"hunter2",
        "SecurityToken":"t0k","Expiration":"2026-01-02T04:04:05Z"}"#;

    fn provider(script: &Arc<Script>, role: Option<&str>) -> EcsRamRoleProvider {
        let http: Arc<dyn HttpSend> = Arc::clone(script) as _;
        EcsRamRoleProvider::new(Metadata::new(http, Endpoint::metadata(), true), role)
    }

    #[tokio::test]
    async fn the_role_is_asked_for_unless_it_is_named() {
        let script = Script::new()
            .expect(Method::Put, TOKEN_URL, answer(200, "t"))
            .expect(Method::Get, ROLES_URL, answer(200, "web role\n"))
            .expect(
                Method::Get,
                &format!("{ROLES_URL}web%20role"),
                answer(200, BODY),
            );
        let provider_asking = provider(&script, None);
        assert_eq!(provider_asking.identity(), None);
        let obtained = provider_asking.obtain().await.expect("credentials");
        assert_eq!(&*obtained.identity, "web role");
        assert_eq!(obtained.credential.access_key_secret(), "hunter2");

        let script = Script::new()
            .expect(Method::Put, TOKEN_URL, answer(200, "t"))
            .expect(Method::Get, &format!("{ROLES_URL}web"), answer(200, BODY));
        let provider_told = provider(&script, Some("web"));
        assert_eq!(provider_told.identity().as_deref(), Some("web"));
        assert!(provider_told.obtain().await.is_ok());
    }

    #[tokio::test]
    async fn a_failure_says_what_was_tried_and_what_to_do_but_not_what_came() {
        let script = Script::new()
            .expect(Method::Put, TOKEN_URL, answer(200, "t"))
            .expect(Method::Get, ROLES_URL, answer(404, "body"))
            .expect(Method::Get, ROLES_URL, answer(404, "body"));
        let error = provider(&script, None).obtain().await.expect_err("no role");
        let text = error.to_string();
        assert!(text.contains("100.100.100.200") && text.contains("attach a RAM role"));
        assert!(!text.contains("body"));

        let script = Script::new()
            .expect(Method::Put, TOKEN_URL, answer(200, "t"))
            .expect(
                Method::Get,
                ROLES_URL,
                answer(200, &BODY.replace("STS.a", "")),
            );
        let error = provider(&script, Some("web")).obtain().await;
        let text = error.expect_err("no credentials").to_string();
        assert!(!text.contains("hunter2") && !text.contains("t0k"), "{text}");
    }
}
