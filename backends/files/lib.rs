#![doc = include_str!("README.md")]

mod backend;
mod config;
mod folder;
mod record;

use kms_agent_core::registry::BackendFactory;

/// Registers this backend as `CacheType = "Files"`.
pub const FACTORY: BackendFactory = BackendFactory {
    name: backend::NAME,
    configure: config::configure,
};
