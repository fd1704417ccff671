//! The backend contract, kept by the shared cache, with a server and without one.
#![expect(clippy::expect_used, reason = "a test that cannot go on panics")]

mod support;

use std::sync::Arc;

use kms_agent_core::CacheBackend;
use kms_agent_core::registry::BackendContext;

use self::support::{Key, Server, config, key_text};

/// An agent that is cut off from its server.
#[derive(Default)]
struct CutOff(Key);

impl kms_agent_conformance::Fixture for CutOff {
    async fn open(&self, context: BackendContext) -> Arc<dyn CacheBackend> {
        let key = key_text(&self.0.path());
        let config = config(&[
            ("Url", "redis://127.0.0.1:1"),
            ("KeyFile", &key),
            ("TimeoutMs", "20"),
        ]);
        config.open(context).await.expect("it opens")
    }
}

mod cut_off {
    use super::CutOff;

    kms_agent_conformance::conformance!(CutOff::default());
}

/// An agent whose server works. Each opening has a prefix of its own: what an earlier one left is another fleet's.
struct Connected(Option<Server>, Key);

impl Default for Connected {
    fn default() -> Self {
        Self(Server::start(&[]), Key::default())
    }
}

impl kms_agent_conformance::Fixture for Connected {
    async fn open(&self, context: BackendContext) -> Arc<dyn CacheBackend> {
        let url = match &self.0 {
            Some(server) => server.url(),
            None => "redis://127.0.0.1:1".to_owned(),
        };
        let key = key_text(&self.1.path());
        let config = config(&[("Url", &url), ("KeyFile", &key)]);
        config.open(context).await.expect("it opens")
    }
}

mod connected {
    use super::Connected;

    kms_agent_conformance::conformance!(Connected::default());
}
