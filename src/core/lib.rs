//! The contract between the parts of `alibabacloud-kms-agent`: vocabulary and ports.
//!
//! This crate performs no I/O and holds no policy. Storage, the KMS client and time are ports
//! ([`CacheBackend`], [`SecretSource`], [`Clock`]) that other crates implement. The author of a backend
//! needs this crate and no other; `kms-agent-cache` reads through the ports.

pub mod backend;
pub mod backoff;
pub mod blocking;
pub mod clock;
pub mod config;
pub mod jitter;
pub mod lifetime;
pub mod log_gate;
pub mod panic;
pub mod registry;
pub mod secret;
pub mod shortage;
pub mod source;
pub mod value;

pub use backend::{BackendError, BackendInfo, BackendStats, CacheBackend, CacheEntry, Resumed};
pub use backoff::{Backoff, Retry};
pub use blocking::{BlockingError, run_blocking};
pub use clock::{Clock, Timeline};
pub use lifetime::{Lifetime, Timestamp};
pub use secret::{Scope, Secret, SecretId, SecretKey, SecretRef, VersionSelector};
pub use source::{SecretSource, SourceError, SourceErrorKind};
pub use value::SecretValue;
