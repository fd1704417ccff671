//! Backend contract, for the in-memory backend.
#![expect(clippy::expect_used, reason = "a test that cannot go on panics")]

use std::cell::RefCell;
use std::sync::Arc;

use kms_agent_backend_memory::FACTORY;
use kms_agent_core::CacheBackend;
use kms_agent_core::config::{ConfigTable, RawTable};
use kms_agent_core::registry::BackendContext;

struct InMemory;

impl kms_agent_conformance::Fixture for InMemory {
    async fn open(&self, context: BackendContext) -> Arc<dyn CacheBackend> {
        let report = RefCell::default();
        let config = (FACTORY.configure)(&mut ConfigTable::root(RawTable::default(), &report));
        config.open(context).await.expect("it opens")
    }
}

kms_agent_conformance::conformance!(InMemory);
kms_agent_conformance::model!(InMemory, histories: 512);
