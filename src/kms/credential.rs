//! The agent's own credentials: what they are, where they come from, and when they are renewed.

mod cached;
mod chain;
mod ecs;
mod environment;
mod issued;
mod key;
mod misconfigured;
mod oidc;
mod provider;
mod uri;

pub(crate) use self::cached::{CachedCredential, Lease};
pub(crate) use self::chain::{Outlets, choose, uri_is_secure};
pub(crate) use self::key::Credential;
pub(crate) use self::oidc::TOKEN_FILE as OIDC_TOKEN_FILE;
