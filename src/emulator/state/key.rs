//! Access keys: long-lived ones, and temporary ones of STS and the metadata service.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::SystemTime;

use time::OffsetDateTime;

use crate::state::random::Draw;

/// Most temporary keys that are kept. Expired ones are kept too, so that they are refused as expired.
const SESSIONS: usize = 10_000;

/// A long-lived access key.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    id: String,
    secret: String,
}

impl AccessKey {
    /// Creates the key of that id and secret.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            secret: secret.into(),
        }
    }

    /// Creates a random long-lived key.
    pub(crate) fn draw(draw: &Draw) -> Self {
        Self::new(format!("LTAI5t{}", draw.hex(18)), draw.hex(30))
    }

    /// The `AccessKeyId`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The `AccessKeySecret`.
    pub fn expose_secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A temporary key with its security token.
#[derive(Clone)]
pub struct SessionCredentials {
    key: AccessKey,
    security_token: String,
    expires_at: OffsetDateTime,
}

impl SessionCredentials {
    /// The `AccessKeyId`.
    pub fn id(&self) -> &str {
        self.key.id()
    }

    /// The `AccessKeySecret`.
    pub fn expose_secret(&self) -> &str {
        self.key.expose_secret()
    }

    /// The `SecurityToken`.
    pub fn expose_token(&self) -> &str {
        &self.security_token
    }

    /// Returns the time of its expiry, by the emulator's clock.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at.into()
    }

    pub(crate) fn expiration(&self) -> OffsetDateTime {
        self.expires_at
    }
}

impl fmt::Debug for SessionCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCredentials")
            .field("id", &self.id())
            .field("expires_at", &self.expires_at())
            .finish_non_exhaustive()
    }
}

/// A key in the gateway's list.
pub(crate) struct Known {
    pub(crate) secret: String,
    pub(crate) enabled: bool,
    /// Security token and expiry of a temporary key.
    pub(crate) session: Option<(String, OffsetDateTime)>,
}

/// Keys by id.
#[derive(Default)]
pub(crate) struct Keys {
    by_id: HashMap<String, Known>,
    /// Ids of temporary keys, oldest first.
    sessions: VecDeque<String>,
}

impl Keys {
    /// Adds or replaces a long-lived key.
    pub(crate) fn add(&mut self, key: AccessKey, enabled: bool) {
        let known = Known {
            secret: key.secret,
            enabled,
            session: None,
        };
        self.by_id.insert(key.id, known);
    }

    /// Enables or disables a key; returns false if it is unknown.
    pub(crate) fn set_enabled(&mut self, id: &str, enabled: bool) -> bool {
        self.by_id
            .get_mut(id)
            .map(|key| key.enabled = enabled)
            .is_some()
    }

    /// Removes a key; returns false if it is unknown.
    pub(crate) fn revoke(&mut self, id: &str) -> bool {
        self.sessions.retain(|session| session != id);
        self.by_id.remove(id).is_some()
    }

    /// Issues a temporary key.
    pub(crate) fn issue_session(
        &mut self,
        draw: &Draw,
        expires_at: OffsetDateTime,
    ) -> SessionCredentials {
        let key = AccessKey::new(format!("STS.N{}", draw.hex(23)), draw.hex(44));
        let security_token = format!("CAIS{}{}", draw.hex64(), draw.hex64());
        let known = Known {
            secret: key.secret.clone(),
            enabled: true,
            session: Some((security_token.clone(), expires_at)),
        };
        self.by_id.insert(key.id.clone(), known);
        self.sessions.push_back(key.id.clone());
        if self.sessions.len() > SESSIONS
            && let Some(oldest) = self.sessions.pop_front()
        {
            self.by_id.remove(&oldest);
        }
        SessionCredentials {
            key,
            security_token,
            expires_at,
        }
    }

    /// Returns the key of that id.
    pub(crate) fn find(&self, id: &str) -> Option<&Known> {
        self.by_id.get(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_key_does_not_show_its_secret() {
        let text = format!("{:?}", AccessKey::new("LTAI", "hunter2"));
        assert!(text.contains("LTAI") && !text.contains("hunter2"), "{text}");
    }
}
