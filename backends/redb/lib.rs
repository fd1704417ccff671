#![doc = include_str!("README.md")]

mod backend;
mod config;
mod examine;
mod queue;
mod store;

use kms_agent_core::registry::BackendFactory;

/// Registers this backend as `CacheType = "Persistent"`.
pub const FACTORY: BackendFactory = BackendFactory {
    name: backend::NAME,
    configure: config::configure,
};
