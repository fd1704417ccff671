//! Cache backends of this agent. To add one, add its crate and one line.

use kms_agent_core::registry::Registry;

/// Values of `CacheType`.
pub(crate) const BACKENDS: Registry = Registry::new(&[
    kms_agent_backend_memory::FACTORY,
    #[cfg(unix)]
    kms_agent_backend_redb::FACTORY,
    #[cfg(unix)]
    kms_agent_backend_redis::FACTORY,
]);

/// Default of `CacheType`.
pub(crate) const DEFAULT: &str = "InMemory";
