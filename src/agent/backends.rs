//! The cache backends built into this agent. To add one, add its crate and one line.

use kms_agent_core::registry::Registry;

/// What `CacheType` may say.
pub(crate) const BACKENDS: Registry = Registry::new(&[
    kms_agent_backend_memory::FACTORY,
    #[cfg(unix)]
    kms_agent_backend_redb::FACTORY,
]);

/// What it says where the config file says nothing.
pub(crate) const DEFAULT: &str = "InMemory";
