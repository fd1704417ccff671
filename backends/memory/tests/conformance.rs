//! The backend contract, kept by the in-memory backend.
#![expect(clippy::expect_used, reason = "a test that cannot go on panics")]

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::sync::Arc;

use kms_agent_backend_memory::FACTORY;
use kms_agent_core::config::{ConfigTable, RawTable};
use kms_agent_core::registry::BackendContext;
use kms_agent_core::{CacheBackend, SystemClock};

struct InMemory;

impl kms_agent_conformance::Fixture for InMemory {
    async fn open(&self, capacity: NonZeroUsize) -> Arc<dyn CacheBackend> {
        let report = RefCell::default();
        let config = (FACTORY.configure)(&mut ConfigTable::root(RawTable::default(), &report));
        let context = BackendContext {
            capacity,
            clock: Arc::new(SystemClock),
        };
        config.open(context).await.expect("it opens")
    }
}

kms_agent_conformance::conformance!(InMemory);
