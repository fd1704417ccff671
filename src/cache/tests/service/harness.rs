//! A service with a scripted source, a backend that may fail and a clock that a test drives.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_cache::answer::ForwardReason;
use kms_agent_cache::metric::ReadMetrics;
use kms_agent_cache::{Answer, CacheStatus, Demand, Policy, SecretService};
use kms_agent_core::registry::BackendContext;
use kms_agent_core::source::KmsRefusal;
use kms_agent_core::{CacheBackend, SourceError, SourceErrorKind, Timeline};
use kms_agent_test_support::{FaultyBackend, ManualClock, ScriptedSource, secret_ref};

pub(crate) struct Harness {
    pub(crate) service: Arc<SecretService>,
    pub(crate) source: Arc<ScriptedSource>,
    pub(crate) backend: Arc<FaultyBackend>,
    pub(crate) clock: ManualClock,
}

pub(crate) async fn harness(policy: Policy) -> Harness {
    let clock = ManualClock::default();
    let source = ScriptedSource::new();
    let capacity = NonZeroUsize::new(100).expect("not zero");
    let report = std::cell::RefCell::default();
    let raw = kms_agent_core::config::RawTable::default();
    let config = (kms_agent_backend_memory::FACTORY.configure)(
        &mut kms_agent_core::config::ConfigTable::root(raw, &report),
    );
    let context = BackendContext {
        capacity,
        clock: Arc::new(clock.clone()),
        data_keys: None,
    };
    let backend = FaultyBackend::new(config.open(context).await.expect("it opens"));
    let service = SecretService::new(
        Arc::clone(&backend) as Arc<dyn CacheBackend>,
        Arc::clone(&source) as _,
        Timeline::new(Arc::new(clock.clone())),
        policy,
        capacity,
        ReadMetrics::register(&mut prometheus_client::registry::Registry::default()),
    );
    Harness {
        service,
        source,
        backend,
        clock,
    }
}

impl Harness {
    pub(crate) async fn read(&self) -> Result<Answer, Arc<SourceError>> {
        self.read_named("s").await
    }

    pub(crate) async fn read_named(&self, name: &str) -> Result<Answer, Arc<SourceError>> {
        self.service.read(&secret_ref(name), Demand::Any).await
    }

    pub(crate) async fn refresh(&self) -> Result<Answer, Arc<SourceError>> {
        self.service
            .read(&secret_ref("s"), Demand::RefreshNow)
            .await
    }

    pub(crate) fn calls(&self) -> usize {
        self.source.calls().len()
    }

    /// Number of entries that the backend holds.
    pub(crate) async fn entries(&self) -> usize {
        let stats = self.service.backend_stats().await;
        stats.expect("the backend works").entries
    }
}

/// No refresh ahead, so that each call is one a reader caused.
pub(crate) fn calm() -> Policy {
    Policy {
        refresh_ahead: false,
        ..Policy::default()
    }
}

pub(crate) fn text(answer: &Answer) -> &str {
    std::str::from_utf8(answer.secret.answer.expose()).expect("text")
}

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn refused(kind: SourceErrorKind, code: &str) -> SourceError {
    SourceError::new(kind, "KMS refused").with_refusal(KmsRefusal {
        status: 404,
        code: code.to_owned(),
        message: String::new(),
        request_id: None,
    })
}

pub(crate) const fn forwarded(reason: ForwardReason) -> CacheStatus {
    CacheStatus::Forwarded {
        reason,
        stored: true,
        collapsed: false,
    }
}
