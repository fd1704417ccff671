//! The contract between the parts of `alibabacloud-kms-agent`: vocabulary and ports.
//!
//! This crate performs no I/O and holds no policy. Storage, the KMS client and time are ports
//! ([`CacheBackend`], [`Fleet`], [`SecretSource`], [`DataKeySource`], [`Clock`]) that other crates implement. The author of a backend
//! needs this crate and no other; `kms-agent-cache` reads through the ports.

pub mod backend;
pub mod backoff;
pub mod clock;
pub mod config;
pub mod data_key;
pub mod fleet;
pub mod lifetime;
pub mod log_gate;
pub mod member;
pub mod pattern;
pub mod registry;
pub mod secret;
pub mod source;
pub mod system;
pub mod value;

pub use backend::{BackendError, BackendInfo, BackendStats, CacheBackend, CacheEntry, Resumed};
pub use backoff::{Backoff, Retry, jitter};
pub use clock::{Clock, Timeline};
pub use data_key::DataKeySource;
pub use fleet::{Fleet, Removal};
pub use lifetime::{Lifetime, Timestamp};
pub use pattern::Pattern;
pub use secret::{Scope, Secret, SecretId, SecretKey, SecretRef, VersionSelector};
pub use source::{SecretSource, SourceError, SourceErrorKind};
pub use system::blocking::{BlockingError, run_blocking};
pub use system::{panic, shortage};
pub use value::SecretValue;
