//! The read-through cache of `alibabacloud-kms-agent`.
//!
//! This crate decides *what* is answered: which cached entry is fresh, when KMS is asked, and when a stale
//! entry may stand in for an answer that KMS could not give. Storage, the KMS client and time are ports of
//! `kms-agent-core`.
//!
//! A read begins at [`SecretService::read`]; everything else in here is something it uses.

pub mod answer;
pub mod metric;
pub mod observed;
pub mod policy;
pub mod prefetch;
mod purge;
mod refresh;
pub mod service;
mod shared_run;
mod system_clock;
pub mod task;
mod upstream;
mod watch;

pub use answer::{Answer, CacheStatus, Demand};
pub use policy::{Policies, Policy, SecretPolicy};
pub use prefetch::Prefetch;
pub use service::SecretService;
pub use system_clock::SystemClock;
pub use task::Tasks;
pub use watch::{Watch, WatchState};
