use kms_agent_core::source::{Purpose, SendGate};
use kms_agent_core::{SecretId, SecretRef, VersionSelector};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;

use super::super::*;
use crate::http::{HttpError, HttpErrorKind, Method};
use crate::settings::KmsSettings;
use crate::testing::{ManualClock, Script, ScriptedOutcome, answer, manual_clock, settle};

pub(super) const KMS: &str =
    "https://kms.cn-hangzhou.aliyuncs.com/?SecretName=app%2Fdb&VersionStage=ACSCurrent";
pub(super) const STS: &str = "https://sts.aliyuncs.com/?";
pub(super) const SECRET: &str = r#"{"RequestId":"r-1","SecretName":"app/db","VersionId":"v1","SecretData":"hunter2",
    "VersionStages":{"VersionStage":["ACSCurrent"]},"NextRotationDate":"2026-02-01T00:00:00Z"}"#;
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A source in front of a scripted KMS and a scripted STS, under a clock that stands still.
pub(super) struct Bench {
    pub(super) clock: Arc<ManualClock>,
    pub(super) kms: Arc<Script>,
    sts: Arc<Script>,
    settings: Settings,
    variables: Vec<(String, String)>,
    /// Kept for as long as the source may read it.
    token_file: Option<tempfile::NamedTempFile>,
}

impl Bench {
    pub(super) fn new(kms: Arc<Script>) -> Self {
        let variables = [
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI"),
            ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "s3cret"),
            ("ALIBABA_CLOUD_REGION_ID", "cn-hangzhou"),
        ];
        Self {
            clock: manual_clock(),
            kms,
            sts: Script::new(),
            settings: Settings::default(),
            variables: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            token_file: None,
        }
    }

    /// The agent's identity is a role whose credentials STS gives.
    pub(super) fn with_role(mut self, sts: Arc<Script>) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::io::Write::write_all(&mut file.as_file(), b"t0ken").expect("written");
        let path = file.path().to_str().expect("a path");
        self.variables = [
            ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/agent"),
            (
                "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
                "acs:ram::1:oidc-provider/x",
            ),
            ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", path),
            ("ALIBABA_CLOUD_REGION_ID", "cn-hangzhou"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        self.sts = sts;
        self.token_file = Some(file);
        self
    }

    pub(super) fn with_kms(mut self, change: impl FnOnce(&mut KmsSettings)) -> Self {
        change(&mut self.settings.kms);
        self
    }

    pub(super) fn source(&self) -> Arc<KmsSource> {
        let nobody: Arc<Script> = Script::new();
        KmsSource::with_clients(
            self.settings.clone(),
            &self.variables.iter().cloned().collect(),
            Arc::clone(&self.clock) as _,
            KmsMetrics::register(&mut Registry::default()),
            HttpClients {
                kms: Arc::clone(&self.kms) as _,
                sts: Arc::clone(&self.sts) as _,
                metadata: Arc::clone(&nobody) as _,
                uri: nobody,
            },
        )
    }

    /// Reads the secret, letting time pass while the source waits.
    pub(super) async fn fetch(&self) -> Result<Fetched, SourceError> {
        let reader = self.begin();
        while !reader.is_finished() {
            settle().await;
            // Reading the token file takes a thread of its own.
            tokio::task::spawn_blocking(|| ()).await.expect("no panic");
            settle().await;
            if !reader.is_finished() {
                self.clock.advance(Duration::from_millis(50));
            }
        }
        reader.await.expect("no panic")
    }

    pub(super) fn begin(&self) -> JoinHandle<Result<Fetched, SourceError>> {
        read(self.source(), self.clock.boot())
    }
}

pub(super) fn read(
    source: Arc<KmsSource>,
    arrived_at: Duration,
) -> JoinHandle<Result<Fetched, SourceError>> {
    tokio::spawn(async move {
        let secret = SecretRef {
            id: SecretId::parse("app/db").expect("an id"),
            selector: VersionSelector::CURRENT,
        };
        source
            .fetch(FetchRequest {
                secret: &secret,
                purpose: Purpose::Read,
                arrived_at,
                gate: &SendGate::default(),
                extended_config: false,
            })
            .await
    })
}

pub(super) fn refusal(status: u16, code: &str) -> ScriptedOutcome {
    answer(
        status,
        &format!(r#"{{"Code":"{code}","Message":"m","RequestId":"r-2"}}"#),
    )
}

pub(super) fn lost() -> ScriptedOutcome {
    Err(HttpError::new(HttpErrorKind::Connect, "refused"))
}

pub(super) fn issued(id: &str) -> ScriptedOutcome {
    answer(
        200,
        &format!(
            r#"{{"Credentials":{{"AccessKeyId":"{id}","AccessKeySecret":"s","SecurityToken":"t-{id}",
            "Expiration":"2026-01-02T04:04:05Z"}}}}"#
        ),
    )
}

pub(super) fn kms(outcomes: Vec<ScriptedOutcome>) -> Arc<Script> {
    outcomes.into_iter().fold(Script::new(), |script, outcome| {
        script.expect(Method::Post, KMS, outcome)
    })
}

pub(super) fn sts(outcomes: Vec<ScriptedOutcome>) -> Arc<Script> {
    outcomes.into_iter().fold(Script::new(), |script, outcome| {
        script.expect(Method::Post, STS, outcome)
    })
}
