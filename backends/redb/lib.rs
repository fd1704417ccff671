#![doc = include_str!("README.md")]

mod backend;
mod config;
mod examine;
#[cfg(fuzzing)]
pub mod fuzzing;
mod key;
mod map;
mod private;
mod queue;
mod record;
mod seal;
mod store;

use kms_agent_core::registry::BackendFactory;

/// Registers this backend as `CacheType = "Persistent"`.
pub const FACTORY: BackendFactory = BackendFactory {
    name: backend::NAME,
    configure: config::configure,
};
