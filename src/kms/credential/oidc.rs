use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::provider::{CredentialError, CredentialProvider, Obtained, Origin};
use super::role::{Role, RoleOptions};
use super::sts::{Gateway, Sts};
use crate::gateway::QUOTED;
use crate::host::Environment;
use crate::host::file::{self, FileError};

pub(super) const NAME: &str = "oidc";

const ROLE: &str = "ALIBABA_CLOUD_ROLE_ARN";
const IDENTITY_PROVIDER: &str = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN";
pub(crate) const TOKEN_FILE: &str = "ALIBABA_CLOUD_OIDC_TOKEN_FILE";

/// STS takes at most 20,000 characters.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// A role that is assumed with the token of an OIDC provider, such as a Kubernetes service account (RRSA).
#[derive(Debug)]
pub(super) struct OidcProvider {
    pub(super) name: &'static str,
    pub(super) origin: Origin,
    pub(super) gateway: Gateway,
    pub(super) role: Role,
    pub(super) identity_provider: String,
    pub(super) token_file: PathBuf,
}

/// Whether the environment holds all that it takes.
pub(super) fn is_configured(environment: &Environment) -> bool {
    [ROLE, IDENTITY_PROVIDER, TOKEN_FILE]
        .iter()
        .all(|name| environment.given(name).is_some())
}

impl OidcProvider {
    pub(super) fn parse(sts: &Sts, environment: &Environment) -> Result<Self, CredentialError> {
        let origin = Origin::new("by OIDC");
        let required = |name| {
            if environment.is_quoted(name) {
                return Err(origin.error(format_args!("{name} {QUOTED}")));
            }
            environment.given(name).ok_or_else(|| {
                origin.error(format_args!(
                    "{name} is not set; set {ROLE}, {IDENTITY_PROVIDER} and {TOKEN_FILE}"
                ))
            })
        };
        Ok(Self {
            name: NAME,
            gateway: sts
                .gateway(None, None, environment)
                .map_err(|what| origin.error(what))?,
            role: Role::new(required(ROLE)?, RoleOptions::default(), environment),
            identity_provider: required(IDENTITY_PROVIDER)?.to_owned(),
            token_file: required(TOKEN_FILE)?.into(),
            origin,
        })
    }

    fn token_error(&self, what: &dyn fmt::Display, remedy: &str) -> CredentialError {
        self.origin.error(format_args!(
            "the token file {} {what}; {remedy}",
            self.token_file.display()
        ))
    }

    fn unreadable(&self, error: &FileError) -> CredentialError {
        let remedy = error
            .remedy()
            .unwrap_or("see that the service account's token is mounted there".into());
        self.token_error(&format_args!("cannot be read: {error}"), &remedy)
    }
}

#[async_trait]
impl CredentialProvider for OidcProvider {
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
        // The file changes every hour or so; what was read before counts for nothing.
        let token = file::read(self.token_file.clone(), MAX_TOKEN_BYTES)
            .await
            .map_err(|error| self.unreadable(&error))?;
        let token = std::str::from_utf8(&token)
            .map(str::trim)
            .ok()
            .filter(|token| !token.is_empty())
            .ok_or_else(|| {
                self.token_error(&"holds no token", "put the service account's token there")
            })?;
        self.gateway
            .assume_role_with_oidc(&self.role, &self.identity_provider, token)
            .await
            .map_err(|what| self.origin.error(what))
    }

    async fn changed(&self) {
        // A new token is for the next renewal; the present credentials stay valid.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
