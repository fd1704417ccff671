//! The vocabulary, the ports and the read policy of `alibabacloud-kms-agent`.
//!
//! This crate decides *what* is answered: which copy of a secret is fresh, when KMS is asked, when an
//! expired copy may stand in for an answer that KMS could not give. It performs no I/O. Storage, the
//! KMS client and time are ports ([`CacheBackend`], [`SecretSource`], [`Clock`]) that other crates
//! implement and the agent's composition root plugs in.
//!
//! The way of a read is [`SecretService::read`]; everything else in here is something it uses.

pub mod answer;
pub mod backend;
pub mod blocking;
mod call_limit;
pub mod clock;
pub mod config;
mod flight;
pub mod jitter;
pub mod lifetime;
pub mod log_gate;
pub mod metric;
mod negative;
pub mod observed;
mod outage;
pub mod panic;
pub mod policy;
pub mod prefetch;
mod purge;
mod refresh;
pub mod registry;
pub mod secret;
pub mod service;
mod shared_run;
pub mod shortage;
pub mod source;
pub mod task;
pub mod value;

pub use answer::{Answer, CacheStatus, Demand};
pub use backend::{BackendError, BackendInfo, BackendStats, CacheBackend, CacheEntry, Resumed};
pub use blocking::{BlockingError, run_blocking};
pub use clock::{Clock, SystemClock, Timeline};
pub use lifetime::{Lifetime, Timestamp};
pub use policy::Policy;
pub use prefetch::Prefetch;
pub use secret::{Scope, Secret, SecretId, SecretKey, SecretRef, VersionSelector};
pub use service::SecretService;
pub use source::{SecretSource, SourceError, SourceErrorKind};
pub use task::Tasks;
pub use value::SecretValue;
