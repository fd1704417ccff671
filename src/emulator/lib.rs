#![doc = include_str!("README.md")]

mod control;
mod emulator;
mod fault;
mod options;
mod route;
mod serve;
mod service;
mod sign;
mod state;
mod wire;

pub use emulator::Emulator;
pub use fault::{Fault, FaultKind, FaultMatch};
pub use options::Options;
pub use state::action::Action;
pub use state::call::RecordedCall;
pub use state::key::{AccessKey, SessionCredentials};
pub use state::metadata::{MetadataSettings, TokenEndpoint};
pub use state::secret::{DataType, PutSecret, Rotation, SecretState, SecretType};
pub use wire::refusal::InvalidOrder;
