//! The fetcher against the emulator, which checks signatures with code of its own.
#![expect(clippy::expect_used, reason = "a test that cannot go on panics")]

use std::io::Write;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::secret::Fetched;
use kms_agent_core::source::{FetchRequest, Purpose, SourceErrorKind};
use kms_agent_core::{
    Clock, SecretId, SecretRef, SecretSource, SourceError, SystemClock, VersionSelector,
};
use kms_agent_emulator::{
    Action, Emulator, Fault, FaultKind, MetadataSettings, Options, PutSecret, TokenEndpoint,
};
use kms_agent_kms::endpoint::Endpoint;
use kms_agent_kms::{Environment, KmsMetrics, KmsSource, ProviderChoice, Settings};
use prometheus_client::registry::Registry;
use tempfile::NamedTempFile;

const NAME: &str = "app/db_password+v1=a@b";

struct Agent {
    emulator: Emulator,
    settings: Settings,
    variables: Vec<(&'static str, String)>,
    source: Option<Arc<KmsSource>>,
}

impl Agent {
    /// An agent whose identity is the emulator's static key.
    fn new(emulator: Emulator) -> Self {
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
            source: None,
        }
    }

    fn start() -> Self {
        Self::new(Emulator::start(Options::default()).expect("an emulator"))
    }

    fn with_role(mut self, token: &NamedTempFile) -> Self {
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

    fn source(&mut self) -> Arc<KmsSource> {
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

    async fn read(&mut self, id: &str) -> Result<Fetched, SourceError> {
        self.read_version(id, VersionSelector::CURRENT).await
    }

    async fn read_version(
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
            })
            .await
    }

    async fn kind(&mut self) -> SourceErrorKind {
        self.read(NAME).await.expect_err("a failure").kind()
    }

    fn fault(&self, fault: Fault) {
        self.emulator.fault(fault).expect("a fault");
    }

    fn calls(&self, action: Action) -> u64 {
        self.emulator.count_calls(action)
    }
}

fn token_file(token: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(token.as_bytes()).expect("written");
    file
}

fn holds(fetched: &Fetched, value: &str) -> bool {
    std::str::from_utf8(fetched.secret.answer.expose())
        .expect("text")
        .contains(&format!("\"SecretData\":\"{value}\""))
}

#[tokio::test]
async fn a_secret_is_read_with_a_static_key() {
    let mut agent = Agent::start();
    let fetched = agent.read(NAME).await.expect("a secret");
    assert!(holds(&fetched, "hunter2"));
    assert_eq!(&*fetched.secret.version_id, "v1");
    assert_eq!(*fetched.secret.stages, ["ACSCurrent".into()]);
    assert_eq!(&*fetched.scope.endpoint, agent.emulator.endpoint());
    assert_eq!(&*fetched.scope.identity, agent.emulator.access_key().id());
    let calls = agent.emulator.calls();
    let agents: Vec<_> = calls
        .iter()
        .filter_map(|call| call.user_agent.as_deref())
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(agents, [format!("alibabacloud-kms-agent/{version}")]);
}

#[tokio::test]
async fn versions_are_asked_for_by_id_and_by_stage() {
    let mut agent = Agent::start();
    agent
        .emulator
        .put_secret(PutSecret::new(NAME, "hunter3").version_id("v2"))
        .expect("a version");
    for (id, stage, value) in [
        (None, None, "hunter3"),
        (Some("v1"), None, "hunter2"),
        (None, Some("ACSPrevious"), "hunter2"),
        (Some("v2"), Some("ACSCurrent"), "hunter3"),
    ] {
        let selector = VersionSelector::parse(id, stage).expect("a selector");
        let fetched = agent.read_version(NAME, selector).await.expect("a secret");
        assert!(holds(&fetched, value));
    }
}

#[tokio::test]
async fn a_secret_is_read_over_tls_of_an_authority_that_only_the_ca_file_knows() {
    let options = Options {
        tls: true,
        ..Options::default()
    };
    let mut agent = Agent::new(Emulator::start(options).expect("an emulator"));
    let ca = token_file(agent.emulator.ca_pem().expect("a CA"));
    agent.settings.kms.ca_file = Some(ca.path().to_owned());
    assert!(agent.read(NAME).await.is_ok());

    // An authority of another run does not vouch for this one.
    let options = Options {
        tls: true,
        ..Options::default()
    };
    let other = Emulator::start(options).expect("an emulator");
    let ca = token_file(other.ca_pem().expect("a CA"));
    agent.settings.kms.ca_file = Some(ca.path().to_owned());
    agent.settings.kms.max_attempts = NonZeroU32::MIN;
    agent.source = None;
    agent.emulator.clear_calls();
    let error = agent.read(NAME).await.expect_err("a stranger");
    assert_eq!(error.kind(), SourceErrorKind::Unavailable);
    assert!(error.report().contains("TLS"), "{}", error.report());
    assert_eq!(agent.calls(Action::GetSecretValue), 0);
}

#[tokio::test]
async fn failures_that_pass_are_got_over() {
    for kind in [
        FaultKind::Throttle,
        FaultKind::Status,
        FaultKind::Cut,
        FaultKind::CutMidBody,
        FaultKind::Garbage,
        FaultKind::Redirect,
    ] {
        let mut agent = Agent::start();
        agent.fault(Fault::new(kind).on(Action::GetSecretValue).times(2));
        assert!(agent.read(NAME).await.is_ok(), "{kind:?}");
        assert_eq!(agent.calls(Action::GetSecretValue), 3, "{kind:?}");
        assert_eq!(agent.calls(Action::Other), 0, "a redirect was followed");
    }
}

#[tokio::test]
async fn failures_that_stay_are_told_by_their_kind() {
    for (fault, kind) in [
        (Fault::new(FaultKind::Throttle), SourceErrorKind::Throttled),
        (
            Fault::status(500, "InternalFailure"),
            SourceErrorKind::ServerFailure,
        ),
        (Fault::new(FaultKind::Cut), SourceErrorKind::Unavailable),
        (
            Fault::new(FaultKind::CutMidBody),
            SourceErrorKind::Unavailable,
        ),
        (
            Fault::new(FaultKind::Garbage),
            SourceErrorKind::InvalidAnswer,
        ),
        (
            Fault::new(FaultKind::Redirect),
            SourceErrorKind::InvalidAnswer,
        ),
        (
            Fault::new(FaultKind::Oversize),
            SourceErrorKind::InvalidAnswer,
        ),
        (
            Fault::status(404, "Forbidden.ResourceNotFound"),
            SourceErrorKind::Decision,
        ),
        (
            Fault::status(400, "InvalidParameter"),
            SourceErrorKind::Refused,
        ),
    ] {
        let mut agent = Agent::start();
        agent.fault(fault.clone());
        assert_eq!(agent.kind().await, kind, "{fault:?}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for_for_ever() {
    let mut agent = Agent::start();
    agent.settings.kms.request_timeout = Duration::from_millis(100);
    agent.fault(Fault::new(FaultKind::Hang));
    assert_eq!(agent.kind().await, SourceErrorKind::TimedOut);
    assert_eq!(agent.calls(Action::GetSecretValue), 3);
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let mut agent = Agent::start();
    let Agent {
        emulator,
        settings,
        variables,
        ..
    } = agent;
    emulator.stop().await;
    agent = Agent {
        emulator: Emulator::start(Options::default()).expect("an emulator"),
        settings,
        variables,
        source: None,
    };
    assert_eq!(agent.kind().await, SourceErrorKind::Unavailable);
}

#[tokio::test]
async fn a_secret_that_is_not_there_or_not_allowed_is_a_decision() {
    let mut agent = Agent::start();
    let error = agent.read("no/such").await.expect_err("not there");
    assert_eq!(error.kind(), SourceErrorKind::Decision);
    let refusal = error.refusal().expect("what KMS said");
    assert_eq!(refusal.status, 404);
    assert_eq!(refusal.code, "Forbidden.ResourceNotFound");
    assert!(refusal.request_id.is_some());
    agent.emulator.deny_secret(NAME);
    assert_eq!(agent.kind().await, SourceErrorKind::Decision);
}

#[tokio::test]
async fn a_clock_that_differs_by_hours_is_got_over() {
    for seconds in [-7200, 7200] {
        let mut agent = Agent::start();
        agent.emulator.set_clock_offset(seconds);
        assert!(agent.read(NAME).await.is_ok());
        assert_eq!(agent.calls(Action::GetSecretValue), 2);
    }
}

#[tokio::test]
async fn a_disabled_key_is_a_refused_identity() {
    let mut agent = Agent::start();
    let id = agent.emulator.access_key().id().to_owned();
    assert!(agent.emulator.set_access_key_enabled(&id, false));
    assert_eq!(agent.kind().await, SourceErrorKind::IdentityRefused);
    assert_eq!(agent.calls(Action::GetSecretValue), 1);
}

#[tokio::test]
async fn a_secret_is_read_in_a_role_assumed_with_a_token() {
    let token = token_file("header.payload.signature");
    let mut agent = Agent::start().with_role(&token);
    agent
        .emulator
        .register_oidc_token("header.payload.signature");
    for _ in 0..3 {
        let fetched = agent.read(NAME).await.expect("a secret");
        assert_eq!(
            &*fetched.scope.identity,
            "acs:ram::1234567890123456:role/agent"
        );
    }
    assert_eq!(agent.calls(Action::AssumeRoleWithOidc), 1);
    let state = agent.source().credentials();
    assert_eq!(state.provider.as_deref(), Some("oidc"));
    assert!(state.usable && state.expires_at.is_some());
}

#[tokio::test]
async fn credentials_that_were_revoked_are_renewed_at_once() {
    let token = token_file("header.payload.signature");
    let mut agent = Agent::start().with_role(&token);
    assert!(agent.read(NAME).await.is_ok());
    let calls = agent.emulator.calls();
    let used = calls
        .iter()
        .filter(|call| call.action == Action::GetSecretValue)
        .find_map(|call| call.access_key_id.clone())
        .expect("a key");
    assert!(agent.emulator.revoke_access_key(&used));
    assert!(agent.read(NAME).await.is_ok());
    assert_eq!(agent.calls(Action::AssumeRoleWithOidc), 2);
    assert_eq!(agent.calls(Action::GetSecretValue), 3);
}

#[tokio::test]
async fn a_role_that_sts_refuses_is_no_credentials() {
    let token = token_file("header.payload.signature");
    let mut agent = Agent::start().with_role(&token);
    agent.emulator.register_role("acs:ram::1:role/other");
    let error = agent.read(NAME).await.expect_err("no credentials");
    assert_eq!(error.kind(), SourceErrorKind::NoCredentials);
    assert!(error.report().contains("EntityNotExist.Role"));
    assert_eq!(agent.calls(Action::GetSecretValue), 0);
}

#[tokio::test]
async fn a_secret_is_read_in_the_role_of_the_instance() {
    for (token_endpoint, allow_v1) in [
        (TokenEndpoint::Present, false),
        (TokenEndpoint::Absent, true),
        (TokenEndpoint::Forbidden, true),
    ] {
        let mut agent = Agent::start();
        agent.settings.credentials.provider = ProviderChoice::EcsRamRole;
        agent.emulator.set_metadata(MetadataSettings {
            role: Some("web".to_owned()),
            token_endpoint,
            allow_v1,
            ..MetadataSettings::default()
        });
        let fetched = agent.read(NAME).await.expect("a secret");
        assert_eq!(&*fetched.scope.identity, "web");
    }
}

#[tokio::test]
async fn an_instance_without_a_role_has_no_credentials() {
    let mut agent = Agent::start();
    agent.variables.clear();
    agent.emulator.set_metadata(MetadataSettings {
        role: None,
        ..MetadataSettings::default()
    });
    let error = agent.read(NAME).await.expect_err("no credentials");
    assert_eq!(error.kind(), SourceErrorKind::NoCredentials);
    assert!(error.report().contains("attach a RAM role"));
}

#[tokio::test]
async fn the_region_is_learnt_from_the_instance_when_nothing_else_names_it() {
    let mut agent = Agent::start();
    agent.settings.kms.endpoint = None;
    let source = agent.source();
    assert!(source.scope().is_none() && source.region().is_none());
    let maintained = tokio::spawn({
        let source = Arc::clone(&source);
        async move { source.maintain().await }
    });
    while source.scope().is_none() {
        tokio::task::yield_now().await;
    }
    maintained.abort();
    assert_eq!(source.region().as_deref(), Some("cn-hangzhou"));
    let scope = source.scope().expect("a scope");
    assert_eq!(&*scope.endpoint, "kms.cn-hangzhou.aliyuncs.com");
}
