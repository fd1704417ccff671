//! The handlers, one file a group of routes.

pub(crate) mod agent;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod secret;
pub(crate) mod vault;
