//! Backend contract, for the example.
#![expect(clippy::expect_used, reason = "a test that cannot go on panics")]

mod support;

use std::cell::RefCell;
use std::sync::Arc;

use kms_agent_backend_files::FACTORY;
use kms_agent_core::CacheBackend;
use kms_agent_core::config::ConfigTable;
use kms_agent_core::registry::BackendContext;
use tempfile::TempDir;

struct Files(TempDir);

impl Default for Files {
    fn default() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }
}

impl kms_agent_conformance::Fixture for Files {
    async fn open(&self, context: BackendContext) -> Arc<dyn CacheBackend> {
        let report = RefCell::default();
        let mut table = ConfigTable::root(support::files_table(self.0.path()), &report);
        let config = (FACTORY.configure)(&mut table);
        config.open(context).await.expect("it opens")
    }
}

kms_agent_conformance::conformance!(Files::default());
kms_agent_conformance::model!(Files::default(), histories: 64);
