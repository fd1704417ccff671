//! Roles and OIDC tokens that STS accepts.

use crate::wire::refusal::ServiceRefusal;

/// Roles and OIDC tokens that STS accepts.
#[derive(Default)]
pub(crate) struct RoleTrust {
    /// Registered OIDC tokens; if empty, every token is valid.
    tokens: Vec<String>,
    /// Registered role ARNs; if empty, every role exists.
    roles: Vec<String>,
}

impl RoleTrust {
    /// Registers an OIDC token. From now on only registered ones are accepted.
    pub(crate) fn register_token(&mut self, token: String) {
        self.tokens.push(token);
    }

    /// Registers a role. From now on only registered ones exist.
    pub(crate) fn register_role(&mut self, arn: String) {
        self.roles.push(arn);
    }

    pub(crate) fn check_role(&self, arn: &str) -> Result<(), ServiceRefusal> {
        if self.roles.is_empty() || self.roles.iter().any(|role| role == arn) {
            return Ok(());
        }
        Err(ServiceRefusal::gateway(
            404,
            "EntityNotExist.Role",
            "The specified Role not exists.",
        ))
    }

    pub(crate) fn check_token(&self, token: &str) -> Result<(), ServiceRefusal> {
        let known = self.tokens.is_empty() || self.tokens.iter().any(|good| good == token);
        if known && (4..=20_000).contains(&token.len()) {
            return Ok(());
        }
        Err(ServiceRefusal::gateway(
            400,
            "AuthenticationFail.OIDCToken.Invalid",
            "This JWT token is invalid.",
        ))
    }
}
