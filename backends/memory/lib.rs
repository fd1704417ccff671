#![doc = include_str!("README.md")]

mod backend;
mod config;
mod index;
mod slot;

use kms_agent_core::registry::BackendFactory;

/// Registers this backend as `CacheType = "InMemory"`.
pub const FACTORY: BackendFactory = BackendFactory {
    name: backend::NAME,
    configure: config::configure,
};
