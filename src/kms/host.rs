//! Ports to the machine: a snapshot of the environment, files read with bounds and judged by who may write them, and
//! digests.

pub(crate) mod digest;
mod environment;
pub(crate) mod file;

pub use self::environment::Environment;
