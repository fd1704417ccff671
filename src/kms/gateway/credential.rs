use std::fmt;

use kms_agent_core::Timestamp;
use zeroize::Zeroizing;

/// Credential that signs a request. Its secret and token are never shown.
#[derive(Clone)]
pub(crate) struct Credential {
    access_key_id: String,
    access_key_secret: Zeroizing<String>,
    security_token: Option<Zeroizing<String>>,
    expires_at: Option<Timestamp>,
}

/// Part of credentials that the server sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Id,
    Token,
}

/// Complaint about a part that is not visible ASCII.
pub(crate) const UNSENDABLE: &str = "has a character that no key has";

/// Complaint about a variable whose value stands in quotation marks. They are not removed: the SDKs that share
/// the variable take them for part of the value, too.
pub(crate) const QUOTED: &str = "begins and ends with a quotation mark, which counts as part of it; remove both of them (docker run --env-file keeps them)";

impl Credential {
    /// A static key.
    pub(crate) fn new(access_key_id: &str, access_key_secret: &str) -> Self {
        Self {
            access_key_id: access_key_id.to_owned(),
            access_key_secret: Zeroizing::new(access_key_secret.to_owned()),
            security_token: None,
            expires_at: None,
        }
    }

    /// Makes it one that STS issued.
    #[must_use]
    pub(crate) fn with_security_token(mut self, token: &str) -> Self {
        self.security_token = Some(Zeroizing::new(token.to_owned()));
        self
    }

    /// Makes it one that ends, by the issuer's clock.
    #[must_use]
    pub(crate) fn with_expiry(mut self, expires_at: Timestamp) -> Self {
        self.expires_at = Some(expires_at);
        self
    }

    /// The part that must stand in a header as it is, and cannot.
    pub(crate) fn unsendable_part(&self) -> Option<Part> {
        let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_visible(&self.access_key_id) {
            Some(Part::Id)
        } else if self.security_token().is_some_and(|it| !is_visible(it)) {
            Some(Part::Token)
        } else {
            None
        }
    }

    pub(crate) fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    pub(crate) fn access_key_secret(&self) -> &str {
        &self.access_key_secret
    }

    pub(crate) fn security_token(&self) -> Option<&str> {
        self.security_token.as_ref().map(|token| token.as_str())
    }

    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("access_key_id", &self.access_key_id)
            .field("temporary", &self.security_token.is_some())
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_secret_nor_token() {
        let credential = Credential::new("LTAI", "hunter2").with_security_token("tok3n");
        let text = format!("{credential:?} {credential:#?}");
        assert!(text.contains("LTAI"));
        assert!(!text.contains("hunter2") && !text.contains("tok3n"));
    }
}
