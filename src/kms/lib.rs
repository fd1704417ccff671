//! The KMS fetcher: a [`SecretSource`](kms_agent_core::SecretSource) over HTTPS.
//!
//! [`KmsSource`] signs each call with the agent's own credentials, repeats what is worth repeating within ten
//! seconds of the reader's arrival, and turns every answer of KMS into a secret or a kind of failure. It
//! knows nothing of caches. What it needs from outside comes in as values: [`Settings`] read from the config
//! file, a snapshot of the [`Environment`], a clock, and [`KmsMetrics`].

mod checkup;
mod client;
mod credential;
pub mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gateway;
mod host;
mod http;
mod location;
mod metric;
mod scope;
pub mod settings;
#[cfg(test)]
mod testing;
mod warning;

pub use checkup::{Finding, StepOutcome, checkup};
pub use client::KmsSource;
pub use host::Environment;
pub use location::{endpoint, region};
pub use metric::KmsMetrics;
pub use settings::{CredentialSettings, KmsSettings, ProviderChoice, Settings};
pub use warning::log_warnings;
