//! The KMS fetcher: a [`SecretSource`](kms_agent_core::SecretSource) over HTTPS.
//!
//! [`KmsSource`] signs each call with the agent's own credentials, repeats what is worth repeating within ten
//! seconds of the reader's arrival, and turns every answer of KMS into a secret or a kind of failure. It
//! knows nothing of caches. What it needs from outside comes in as values: [`Settings`] read from the config
//! file, a snapshot of the [`Environment`], a clock, and [`KmsMetrics`].

mod budget;
mod checkup;
mod client;
mod credential;
pub mod endpoint;
mod environment;
mod error;
mod file;
#[cfg(fuzzing)]
pub mod fuzzing;
mod http;
mod locator;
mod metadata;
mod metric;
mod nonce;
mod outlet;
mod pace;
pub mod region;
mod retry;
pub mod settings;
mod sign;
mod skew;
#[cfg(test)]
mod testing;
mod warning;
mod wire;

pub use checkup::{Finding, Outcome, checkup};
pub use client::KmsSource;
pub use environment::Environment;
pub use metric::KmsMetrics;
pub use settings::{CredentialSettings, KmsSettings, ProviderChoice, Settings};
pub use warning::log_warnings;
