use std::path::PathBuf;
use std::sync::Arc;

use crate::credential::context::ProviderContext;
use crate::credential::ecs::EcsRamRoleProvider;
use crate::credential::fixed::FixedProvider;
use crate::credential::oidc::OidcProvider;
use crate::credential::provider::{CredentialError, CredentialProvider, Origin};
use crate::credential::role::{Role, RoleOptions, RoleProvider};
use crate::credential::sts::Gateway;
use crate::gateway::Credential;

/// Way to credentials that a profile describes.
#[derive(Debug)]
pub(super) struct ProfilePlan {
    pub(super) base: Base,
    /// Assumed one after the other, each with the credentials of the one before.
    pub(super) roles: Vec<RolePlan>,
}

/// Base credentials of a plan.
#[derive(Debug)]
pub(super) enum Base {
    /// A long-lived key, which is an identity by itself.
    Key(Credential),
    /// A key with a token, renewed by programs that rewrite the file.
    Session(Credential),
    /// The RAM role of the ECS instance, by name or whichever there is.
    Instance(Option<String>),
    /// A role for the token of an OIDC provider.
    Token {
        role: RolePlan,
        identity_provider: String,
        token_file: PathBuf,
    },
}

/// A role as a profile describes it.
#[derive(Debug, Default)]
pub(super) struct RolePlan {
    pub(super) arn: String,
    pub(super) session_name: Option<String>,
    pub(super) duration_seconds: Option<u32>,
    pub(super) policy: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) sts_region: Option<String>,
    /// Whether STS is asked inside the VPC; the environment says where the profile does not.
    pub(super) inner: Option<bool>,
}

impl ProfilePlan {
    pub(super) fn new(base: Base) -> Self {
        Self {
            base,
            roles: Vec::new(),
        }
    }

    /// Identity of the plan of `profile`, if the file names it.
    pub(super) fn identity(&self, profile: &str) -> Option<Arc<str>> {
        if let Some(role) = self.roles.last() {
            return Some(role.arn.as_str().into());
        }
        match &self.base {
            Base::Key(credential) => Some(credential.access_key_id().into()),
            // Its key is another one each time.
            Base::Session(_) => Some(format!("profile:{profile}").into()),
            Base::Instance(role) => role.as_deref().map(Arc::from),
            Base::Token { role, .. } => Some(role.arn.as_str().into()),
        }
    }

    /// The provider that carries the plan out. It goes by `name` and speaks for `origin`.
    pub(super) fn provider(
        self,
        name: &'static str,
        origin: &Origin,
        profile: &str,
        context: &ProviderContext,
    ) -> Result<Box<dyn CredentialProvider>, CredentialError> {
        let base_alone = Self {
            base: self.base,
            roles: Vec::new(),
        };
        let identity = base_alone.identity(profile);
        let base: Box<dyn CredentialProvider> = match base_alone.base {
            Base::Key(credential) | Base::Session(credential) => Box::new(FixedProvider::new(
                name,
                credential,
                identity.unwrap_or_default(),
            )),
            Base::Instance(role) => Box::new(EcsRamRoleProvider::parse(
                name,
                origin.clone(),
                context.metadata.as_ref(),
                role.as_deref(),
                &context.environment,
            )?),
            Base::Token {
                role,
                identity_provider,
                token_file,
            } => Box::new(OidcProvider {
                name,
                origin: origin.clone(),
                gateway: role.gateway(origin, context)?,
                role: role.role(context),
                identity_provider,
                token_file,
            }),
        };
        self.roles.into_iter().try_fold(
            base,
            |source, role| -> Result<Box<dyn CredentialProvider>, _> {
                Ok(Box::new(RoleProvider {
                    name,
                    origin: origin.clone(),
                    source,
                    gateway: role.gateway(origin, context)?,
                    role: role.role(context),
                }))
            },
        )
    }
}

impl RolePlan {
    fn gateway(
        &self,
        origin: &Origin,
        context: &ProviderContext,
    ) -> Result<Gateway, CredentialError> {
        context
            .sts
            .gateway(self.sts_region.as_deref(), self.inner, &context.environment)
            .map_err(|what| origin.error(what))
    }

    fn role(&self, context: &ProviderContext) -> Role {
        let wish = RoleOptions {
            session_name: self.session_name.as_deref(),
            duration_seconds: self.duration_seconds,
            policy: self.policy.as_deref(),
            external_id: self.external_id.as_deref(),
        };
        Role::new(&self.arn, wish, &context.environment)
    }
}
