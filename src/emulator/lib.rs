#![doc = include_str!("README.md")]

mod action;
mod answer;
mod body;
mod call;
mod control;
mod draw;
mod emulator;
mod fault;
mod inbound;
mod instant;
mod key;
mod kms;
mod metadata;
mod nonce;
mod options;
mod order;
mod refusal;
mod route;
mod secret;
mod serve;
mod shared;
mod sign;
mod spoil;
mod sts;
mod tls;
mod uri;

pub use action::Action;
pub use call::Call;
pub use emulator::Emulator;
pub use fault::{Fault, FaultKind, FaultMatch};
pub use key::{AccessKey, SessionCredentials};
pub use metadata::{MetadataSettings, TokenEndpoint};
pub use options::Options;
pub use order::InvalidOrder;
pub use secret::{DataType, PutSecret, Rotation, SecretState, SecretType};
