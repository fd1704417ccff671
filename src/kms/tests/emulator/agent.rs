use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_cache::SystemClock;
use kms_agent_core::secret::Fetched;
use kms_agent_core::source::{FetchRequest, Purpose, SendGate, SourceErrorKind};
use kms_agent_core::{Clock, SecretId, SecretRef, SecretSource, SourceError, VersionSelector};
use kms_agent_emulator::{Action, Emulator, Fault, Options, PutSecret};
use kms_agent_kms::endpoint::Endpoint;
use kms_agent_kms::{Environment, KmsMetrics, KmsSource, Settings};
use prometheus_client::registry::Registry;
use tempfile::NamedTempFile;

/// Holds what must be encoded in a URL.
pub(crate) const NAME: &str = "app/db_password+v1=a@b";

/// The fetcher in front of an emulator.
pub(crate) struct Agent {
    pub(crate) emulator: Emulator,
    pub(crate) settings: Settings,
    pub(crate) variables: Vec<(&'static str, String)>,
    pub(crate) extended_config: bool,
    /// Made when it is first needed, from what the fields say by then.
    pub(crate) source: Option<Arc<KmsSource>>,
}

impl Agent {
    /// An agent whose identity is the emulator's static key.
    pub(crate) fn new(emulator: Emulator) -> Self {
        emulator
            .put_secret(PutSecret::new(NAME, "hunter2").version_id("v1"))
            .expect("a secret");
        let mut settings = Settings::default();
        let endpoint = Endpoint::parse(emulator.base_url()).expect("an endpoint");
        settings.kms.endpoint = Some(endpoint.clone());
        settings.credentials.sts_endpoint = Some(endpoint.clone());
        settings.credentials.metadata_endpoint = Some(endpoint);
        // A busy machine may be slow.
        settings.kms.connect_timeout = Duration::from_mins(1);
        settings.kms.request_timeout = Duration::from_mins(1);
        let key = emulator.access_key();
        let variables = vec![
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", key.id().to_owned()),
            (
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
                key.expose_secret().to_owned(),
            ),
        ];
        Self {
            emulator,
            settings,
            variables,
            extended_config: false,
            source: None,
        }
    }

    pub(crate) fn start() -> Self {
        Self::new(Emulator::start(Options::default()).expect("an emulator"))
    }

    pub(crate) fn with_role(mut self, token: &NamedTempFile) -> Self {
        let path = token.path().to_str().expect("a path");
        self.variables = vec![
            (
                "ALIBABA_CLOUD_ROLE_ARN",
                "acs:ram::1234567890123456:role/agent".to_owned(),
            ),
            (
                "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
                "acs:ram::1234567890123456:oidc-provider/ack".to_owned(),
            ),
            ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", path.to_owned()),
        ];
        self
    }

    pub(crate) fn source(&mut self) -> Arc<KmsSource> {
        let source = self.source.get_or_insert_with(|| {
            KmsSource::new(
                self.settings.clone(),
                &self.variables.iter().cloned().collect::<Environment>(),
                Arc::new(SystemClock),
                KmsMetrics::register(&mut Registry::default()),
            )
        });
        Arc::clone(source)
    }

    pub(crate) async fn read(&mut self, id: &str) -> Result<Fetched, SourceError> {
        self.read_version(id, VersionSelector::CURRENT).await
    }

    pub(crate) async fn read_version(
        &mut self,
        id: &str,
        selector: VersionSelector,
    ) -> Result<Fetched, SourceError> {
        let secret = SecretRef {
            id: SecretId::parse(id).expect("an id"),
            selector,
        };
        let source = self.source();
        source
            .fetch(FetchRequest {
                secret: &secret,
                purpose: Purpose::Read,
                arrived_at: SystemClock.boot(),
                gate: &SendGate::default(),
                extended_config: self.extended_config,
            })
            .await
    }

    pub(crate) async fn kind(&mut self) -> SourceErrorKind {
        self.read(NAME).await.expect_err("a failure").kind()
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.emulator.fault(fault).expect("a fault");
    }

    pub(crate) fn calls(&self, action: Action) -> u64 {
        self.emulator.count_calls(action)
    }
}

/// A file that holds `text` and goes with the handle.
pub(crate) fn file_of(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

/// Whether an answer holds `value`, which needs no escapes.
pub(crate) fn holds(fetched: &Fetched, value: &str) -> bool {
    std::str::from_utf8(fetched.secret.answer.expose())
        .expect("text")
        .contains(&format!("\"SecretData\":\"{value}\""))
}
