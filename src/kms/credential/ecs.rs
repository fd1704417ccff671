use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::provider::{CredentialError, CredentialProvider, Obtained, Origin};
use super::response::{issuer_time, parse_flat};
use crate::gateway::sign::encode;
use crate::host::Environment;
use crate::location::metadata::{self, Metadata, MetadataError};

pub(super) const NAME: &str = "ecs_ram_role";

/// Whether the environment names a role.
pub(super) fn is_configured(environment: &Environment) -> bool {
    environment.given(ROLE).is_some()
}

const ROLE: &str = "ALIBABA_CLOUD_ECS_METADATA";
const ROLE_PATH: &str = "/latest/meta-data/ram/security-credentials/";

const REMEDY: &str = "attach a RAM role to this instance, or configure another provider";

/// Names of roles have at most 64 characters, and none of a page's or a path's.
fn may_be_a_role(text: &str) -> bool {
    text.len() <= 64
        && !text.contains(|letter: char| letter.is_control() || "<>{}/".contains(letter))
}

/// The RAM role that is attached to the ECS instance.
#[derive(Debug)]
pub(super) struct EcsRamRoleProvider {
    name: &'static str,
    origin: Origin,
    metadata: Metadata,
    /// As the operator names it; else the service is asked each time.
    role: Option<Arc<str>>,
    /// Whether it is only asked because nothing else is configured.
    is_last_resort: bool,
}

impl EcsRamRoleProvider {
    /// The role called `role`, else the one that `ALIBABA_CLOUD_ECS_METADATA` names, else whichever is attached.
    pub(super) fn parse(
        name: &'static str,
        origin: Origin,
        metadata: Option<&Metadata>,
        role: Option<&str>,
        environment: &Environment,
    ) -> Result<Self, CredentialError> {
        let Some(metadata) = metadata.cloned() else {
            return Err(origin.error(
                "the metadata service is disabled by ALIBABA_CLOUD_ECS_METADATA_DISABLED; unset it, or configure another provider",
            ));
        };
        Ok(Self {
            name,
            origin,
            metadata,
            role: role.or_else(|| environment.given(ROLE)).map(Arc::from),
            is_last_resort: false,
        })
    }

    /// The role that is asked for because nothing else is configured, which its errors say first: most machines
    /// that come to it are not ECS instances.
    pub(super) fn last_resort(
        metadata: Option<&Metadata>,
        environment: &Environment,
    ) -> Result<Self, CredentialError> {
        let origin = Origin::new("of the ECS RAM role");
        Ok(Self {
            is_last_resort: true,
            ..Self::parse(NAME, origin, metadata, None, environment)?
        })
    }

    fn error(&self, what: &dyn fmt::Display) -> CredentialError {
        let error = self.origin.error(format_args!(
            "the metadata service at {} was asked: {what}",
            self.metadata.authority()
        ));
        if self.is_last_resort {
            return CredentialError::new(format!(
                "no credentials are configured; set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, attach a RAM role, or use another provider ({error})"
            ));
        }
        error
    }

    /// The same where a role or another provider would help.
    fn lacking(&self, what: &dyn fmt::Display) -> CredentialError {
        if self.is_last_resort {
            self.error(what)
        } else {
            self.error(&format_args!("{what}; {REMEDY}"))
        }
    }

    fn failed(&self, error: MetadataError) -> CredentialError {
        match error {
            MetadataError::Status(404) => match &self.role {
                Some(role) => self.error(&format_args!(
                    "the RAM role {} is not attached to this instance; attach it, or configure another provider",
                    role.escape_debug()
                )),
                None => self.lacking(&"no RAM role is attached to this instance"),
            },
            // It names its own remedy.
            MetadataError::NoToken(_) => self.error(&error),
            error => self.lacking(&error),
        }
    }
}

#[async_trait]
impl CredentialProvider for EcsRamRoleProvider {
    fn name(&self) -> &'static str {
        self.name
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
            let text =
                metadata::text(&response).ok_or_else(|| self.lacking(&"it names no role"))?;
            if !may_be_a_role(&text) {
                return Err(self
                    .error(&"its answer is not a role name; something else answers in its place"));
            }
            Arc::from(text.as_str())
        };
        let response = session
            .get(&format!("{ROLE_PATH}{}", encode(&role)))
            .await
            .map_err(|error| self.failed(error))?;
        Ok(Obtained {
            credential: parse_flat(&response.body).map_err(|what| self.lacking(&what))?,
            identity: role,
            issuer_time: issuer_time(&response),
        })
    }

    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HttpSend, Method};
    use crate::location::endpoint::Endpoint;
    use crate::testing::{Script, answer};

    const TOKEN_URL: &str = "http://100.100.100.200/latest/api/token";
    const ROLES_URL: &str = "http://100.100.100.200/latest/meta-data/ram/security-credentials/";
    const BODY: &str = r#"{"Code":"Success","AccessKeyId":"STS.a","AccessKeySecret":"hunter2",
        "SecurityToken":"t0k","Expiration":"2026-01-02T04:04:05Z"}"#;

    fn provider(script: &Arc<Script>, role: Option<&str>) -> EcsRamRoleProvider {
        let http: Arc<dyn HttpSend> = Arc::clone(script) as _;
        let metadata = Metadata::new(http, Endpoint::metadata(), true);
        let origin = Origin::new("of the ECS RAM role");
        let nothing = Environment::default();
        EcsRamRoleProvider::parse(NAME, origin, Some(&metadata), role, &nothing).expect("enabled")
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

        // A page in the place of a role's name.
        let script = Script::new()
            .expect(Method::Put, TOKEN_URL, answer(200, "t"))
            .expect(Method::Get, ROLES_URL, answer(200, "<html>body</html>"));
        let error = provider(&script, None).obtain().await.expect_err("no role");
        let text = error.to_string();
        assert!(
            text.contains("not a role name") && !text.contains("body"),
            "{text}"
        );

        // The role's absence and that of the token are two things.
        let script = Script::new().expect(Method::Put, TOKEN_URL, answer(404, "body"));
        let http: Arc<dyn HttpSend> = Arc::clone(&script) as _;
        let metadata = Metadata::new(http, Endpoint::metadata(), false);
        let (origin, none) = (Origin::new("of the ECS RAM role"), Environment::default());
        let strict = EcsRamRoleProvider::parse(NAME, origin, Some(&metadata), None, &none);
        let error = strict.expect("enabled").obtain().await;
        let text = error.expect_err("no token").to_string();
        assert!(
            text.contains("ALIBABA_CLOUD_IMDSV1_DISABLED") && !text.contains("attach"),
            "{text}"
        );

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
