//! Roles and OIDC tokens that STS accepts.

use crate::wire::refusal::ServiceRefusal;

/// Roles and OIDC tokens that STS accepts.
#[derive(Default)]
pub(crate) struct RoleTrust {
    /// The OIDC tokens that are good; with none registered any will do.
    tokens: Vec<String>,
    /// The role ARNs that exist; with none registered all do.
    roles: Vec<String>,
}

impl RoleTrust {
    /// Accepts an OIDC token, and from now on only registered ones.
    pub(crate) fn register_token(&mut self, token: String) {
        self.tokens.push(token);
    }

    /// Makes a role, and from now on only registered ones exist.
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
