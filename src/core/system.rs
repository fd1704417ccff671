//! Faults of the system around the agent: threads that block or cannot be started, libraries that panic, resources that
//! run short.

pub mod blocking;
pub mod panic;
pub mod shortage;
