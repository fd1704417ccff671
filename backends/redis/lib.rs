#![doc = include_str!("README.md")]

mod backend;
mod config;
mod fleet;
mod journal;
mod key;
mod keyring;
mod lease;
mod local;
mod note;
mod record;
mod server;

use kms_agent_core::registry::BackendFactory;

/// Registers this backend as `CacheType = "Redis"`.
pub const FACTORY: BackendFactory = BackendFactory {
    name: backend::NAME,
    configure: config::configure,
};
