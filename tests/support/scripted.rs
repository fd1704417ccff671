//! A secret source that follows a script.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kms_agent_core::secret::Fetched;
use kms_agent_core::source::{BatchOutcome, BatchRequest, CredentialState, FetchRequest, Purpose};
use kms_agent_core::{
    Scope, Secret, SecretId, SecretRef, SecretSource, SecretValue, SourceError, SourceErrorKind,
    Timestamp, VersionSelector,
};
use tokio::sync::{Semaphore, watch};
use zeroize::Zeroizing;

type ScriptedReply = Box<dyn FnOnce(&SecretRef) -> Result<Fetched, SourceError> + Send>;

/// Answers fetches from a script, in order, and panics at a fetch beyond its end. A test can hold answers back.
pub struct ScriptedSource {
    replies: Mutex<VecDeque<ScriptedReply>>,
    calls: watch::Sender<Vec<(SecretRef, Purpose)>>,
    gate: Semaphore,
    scope: watch::Sender<Option<Arc<Scope>>>,
    /// Whether `learn_scope` waits for the scope.
    learns: AtomicBool,
    confirms_clock: AtomicBool,
}

impl ScriptedSource {
    /// Creates a source with an empty script and a known identity, which holds no answers back.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            replies: Mutex::default(),
            calls: watch::Sender::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            scope: watch::Sender::new(Some(scope("identity"))),
            learns: AtomicBool::new(false),
            confirms_clock: AtomicBool::new(false),
        })
    }

    /// Adds an answer with `value` in it to the script.
    pub fn then_value(&self, value: &str) {
        let value = value.to_owned();
        self.then(move |_| Ok(answer(&value)));
    }

    /// Adds a failure to the script.
    pub fn then_error(&self, error: SourceError) {
        self.then(move |_| Err(error));
    }

    /// Adds any reply to the script.
    pub fn then(
        &self,
        reply: impl FnOnce(&SecretRef) -> Result<Fetched, SourceError> + Send + 'static,
    ) {
        lock(&self.replies).push_back(Box::new(reply));
    }

    /// Holds answers back until [`release`](Self::release).
    pub fn hold(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Releases `count` held answers.
    pub fn release(&self, count: usize) {
        self.gate.add_permits(count);
    }

    /// Returns the calls so far.
    pub fn calls(&self) -> Vec<(SecretRef, Purpose)> {
        self.calls.borrow().clone()
    }

    /// Waits until there were `count` calls.
    pub async fn wait_for_calls(&self, count: usize) {
        let mut calls = self.calls.subscribe();
        calls
            .wait_for(|calls| calls.len() >= count)
            .await
            .expect("the source lives");
    }

    /// Makes the source confirm the wall clock from now on.
    pub fn confirm_clock(&self) {
        self.confirms_clock.store(true, Ordering::Relaxed);
    }

    /// Sets the source's scope.
    pub fn set_scope(&self, scope: Option<Arc<Scope>>) {
        self.scope.send_replace(scope);
    }

    /// Makes the scope unknown; `learn_scope` waits until it is set.
    pub fn will_learn_scope(&self) {
        self.set_scope(None);
        self.learns.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl SecretSource for ScriptedSource {
    fn scope(&self) -> Option<Arc<Scope>> {
        self.scope.borrow().clone()
    }

    async fn learn_scope(&self, _arrived_at: Duration) {
        if self.learns.load(Ordering::Relaxed) {
            let mut scope = self.scope.subscribe();
            scope
                .wait_for(Option::is_some)
                .await
                .expect("the source lives");
        }
    }

    fn region(&self) -> Option<Arc<str>> {
        Some("cn-hangzhou".into())
    }

    fn credentials(&self) -> CredentialState {
        CredentialState {
            provider: Some("scripted".into()),
            usable: true,
            expires_at: None,
            renewal_fails: false,
        }
    }

    fn hindrance(&self) -> Option<SourceErrorKind> {
        None
    }

    fn confirms_clock(&self) -> bool {
        self.confirms_clock.load(Ordering::Relaxed)
    }

    async fn fetch(&self, request: FetchRequest<'_>) -> Result<Fetched, SourceError> {
        assert!(
            request.gate.pass(),
            "the fetch was given up before it began"
        );
        self.calls
            .send_modify(|calls| calls.push((request.secret.clone(), request.purpose)));
        self.gate
            .acquire()
            .await
            .expect("the gate is never closed")
            .forget();
        let reply = lock(&self.replies)
            .pop_front()
            .expect("the script has no reply for this fetch");
        reply(request.secret)
    }

    async fn fetch_batch(
        &self,
        _request: BatchRequest<'_>,
    ) -> Result<Vec<BatchOutcome>, SourceError> {
        Err(SourceError::new(
            SourceErrorKind::Refused,
            "this source knows no batches",
        ))
    }
}

impl fmt::Debug for ScriptedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ScriptedSource({} replies left)",
            lock(&self.replies).len()
        )
    }
}

/// Returns an answer whose bytes are `value` alone; version `v1`, current.
pub fn answer(value: &str) -> Fetched {
    Fetched {
        secret: Secret {
            answer: SecretValue::new(Zeroizing::new(value.as_bytes().to_vec())),
            version_id: "v1".into(),
            stages: ["ACSCurrent".into()].into(),
        },
        scope: scope("identity"),
        rotates_at: None::<Timestamp>,
    }
}

/// Returns the error of a throttled call.
pub fn throttled() -> SourceError {
    SourceError::new(SourceErrorKind::Throttled, "KMS asks for fewer calls")
}

/// Returns a reference to the current version of `name`.
pub fn secret_ref(name: &str) -> SecretRef {
    SecretRef {
        id: SecretId::parse(name).expect("a valid id"),
        selector: VersionSelector::CURRENT,
    }
}

fn scope(identity: &str) -> Arc<Scope> {
    Arc::new(Scope {
        endpoint: "kms.example".into(),
        identity: identity.into(),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
