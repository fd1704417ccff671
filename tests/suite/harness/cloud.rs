//! An emulator with its own runtime, because the tests are synchronous.

use std::ops::Deref;

use kms_agent_emulator::{Emulator, Options, PutSecret};
use kms_agent_test_support::Setup;
use tokio::runtime::Runtime;

/// Path of the binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_alibabacloud-kms-agent");

/// A running emulator with its runtime.
pub(crate) struct Cloud {
    emulator: Option<Emulator>,
    runtime: Runtime,
}

impl Cloud {
    pub(crate) fn start() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let emulator = {
            let _inside = runtime.enter();
            Emulator::start(options).unwrap()
        };
        Self {
            emulator: Some(emulator),
            runtime,
        }
    }

    /// Sets up an agent that reads from this emulator with its access key.
    pub(crate) fn setup(&self) -> Setup {
        self.setup_at(self.base_url())
    }

    /// Sets up the same agent on `port`.
    pub(crate) fn setup_on_port(&self, port: u16) -> Setup {
        self.setup()
            .edit_config(|text| text.replace("HttpPort = 0", &format!("HttpPort = {port}")))
    }

    /// Sets up the same agent with another `endpoint`.
    pub(crate) fn setup_at(&self, endpoint: &str) -> Setup {
        Setup::new(BINARY).kms(
            endpoint,
            self.access_key().id(),
            self.access_key().expose_secret(),
        )
    }

    /// Stores a new current version and returns its id.
    pub(crate) fn put(&self, name: &str, value: &str) -> String {
        self.put_secret(PutSecret::new(name, value)).unwrap()
    }

    /// Returns the number of calls for secrets so far.
    pub(crate) fn reads(&self) -> u64 {
        self.count_calls(kms_agent_emulator::Action::GetSecretValue)
    }
}

impl Deref for Cloud {
    type Target = Emulator;

    fn deref(&self) -> &Emulator {
        self.emulator.as_ref().expect("it runs until it is dropped")
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if let Some(emulator) = self.emulator.take() {
            self.runtime.block_on(emulator.stop());
        }
    }
}
