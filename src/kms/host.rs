//! What the machine provides: a snapshot of the environment, and files read with bounds and judged by who may write them.

mod environment;
pub(crate) mod file;

pub use self::environment::Environment;
