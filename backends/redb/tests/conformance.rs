//! The backend contract, kept by the persistent backend.
#![expect(clippy::expect_used, reason = "a test that cannot go on panics")]

mod support;

use std::num::NonZeroUsize;
use std::sync::Arc;

use kms_agent_core::CacheBackend;

use self::support::Folder;

#[derive(Default)]
struct Persistent(Folder);

impl kms_agent_conformance::Fixture for Persistent {
    async fn open(&self, capacity: NonZeroUsize) -> Arc<dyn CacheBackend> {
        self.0.open_with(capacity).await.expect("it opens")
    }
}

kms_agent_conformance::conformance!(Persistent::default());
