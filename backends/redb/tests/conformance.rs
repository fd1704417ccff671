//! Backend contract, for the persistent backend.
#![expect(clippy::panic, reason = "a test that cannot go on panics")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kms_agent_core::CacheBackend;
use kms_agent_core::registry::BackendContext;

use self::support::Folder;

/// Limit for the release of a store that was dropped without a close.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Persistent(Folder);

impl kms_agent_conformance::Fixture for Persistent {
    async fn open(&self, context: BackendContext) -> Arc<dyn CacheBackend> {
        let began = Instant::now();
        loop {
            match self.0.config().open(context.clone()).await {
                Ok(backend) => return backend,
                // The writer thread releases the file some time after the drop.
                Err(error) if error.message.contains("in use") && began.elapsed() < LIMIT => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("it does not open: {error}"),
            }
        }
    }
}

kms_agent_conformance::conformance!(Persistent::default());
kms_agent_conformance::model!(Persistent::default(), histories: 128);
