//! A KMS with versions, rotation, failures and identities.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use kms_agent_core::secret::Fetched;
use kms_agent_core::source::{BatchOutcome, BatchRequest, CredentialState, FetchRequest};
use kms_agent_core::{
    Clock, Scope, Secret, SecretRef, SecretSource, SecretValue, SourceError, SourceErrorKind,
    VersionSelector,
};
use kms_agent_test_support::{ManualClock, answer, secret_ref};

/// Names of all secrets.
pub(super) const NAMES: [&str; 3] = ["a", "b", MANAGED];

/// Managed secret, for which KMS ignores the requested version.
const MANAGED: &str = "managed";

/// Version that a reader asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum WantedVersion {
    Current,
    Previous,
    Numbered(u32),
}

/// Returns the reference to a version of a secret.
pub(super) fn reference(name: usize, which: WantedVersion) -> SecretRef {
    let selector = match which {
        WantedVersion::Current => Ok(VersionSelector::CURRENT),
        WantedVersion::Previous => VersionSelector::parse(None, Some("ACSPrevious")),
        WantedVersion::Numbered(number) => VersionSelector::parse(Some(&number.to_string()), None),
    };
    SecretRef {
        selector: selector.expect("a valid selector"),
        ..secret_ref(NAMES[name])
    }
}

pub(super) type Identity = u8;

pub(super) fn scope_of(identity: Identity) -> Arc<Scope> {
    Arc::new(Scope {
        endpoint: "kms.example".into(),
        identity: identity.to_string().into(),
    })
}

/// A call that the agent made.
#[derive(Clone, Debug)]
pub(super) struct KmsCall {
    pub(super) secret: SecretRef,
    /// Identity of the agent.
    pub(super) identity: Identity,
    pub(super) outcome: KmsOutcome,
}

/// Outcome of a call, as the agent must understand it.
#[derive(Clone, Debug)]
pub(super) enum KmsOutcome {
    Value {
        /// Text that no other answer has.
        text: String,
        /// Time until the next rotation, if one is due.
        rotates_after: Option<Duration>,
    },
    /// KMS decided against this secret.
    Decided,
    /// KMS refused the call; the secret may still be readable.
    Refused,
    /// KMS did not answer.
    Failed,
}

pub(super) struct FakeKms {
    clock: ManualClock,
    state: Mutex<FakeKmsState>,
}

#[derive(Default)]
struct FakeKmsState {
    secrets: HashMap<&'static str, FakeSecret>,
    failure: Option<SourceErrorKind>,
    identity: Identity,
    /// Whether the agent has learnt its identity since it started.
    is_identity_known: bool,
    calls: Vec<KmsCall>,
    answers: u64,
}

/// A secret with its versions.
#[derive(Default)]
struct FakeSecret {
    /// Versions, the current one last.
    versions: Vec<FakeVersion>,
    /// Last number; numbers are never reused, not even after a deletion.
    last_number: u32,
}

#[derive(Clone, Copy)]
struct FakeVersion {
    number: u32,
    /// Time of the rotation, in boot time.
    rotates_at: Option<Duration>,
}

impl FakeKms {
    pub(super) fn new(clock: ManualClock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            state: Mutex::default(),
        })
    }

    pub(super) fn put(&self, name: usize, rotates_after: Option<Duration>) {
        let rotates_at = rotates_after.map(|after| self.clock.boot() + after);
        let mut state = self.lock();
        let secret = state.secrets.entry(NAMES[name]).or_default();
        secret.last_number += 1;
        secret.versions.push(FakeVersion {
            number: secret.last_number,
            rotates_at,
        });
    }

    pub(super) fn delete(&self, name: usize) {
        let mut state = self.lock();
        state
            .secrets
            .entry(NAMES[name])
            .or_default()
            .versions
            .clear();
    }

    pub(super) fn set_failure(&self, failure: Option<SourceErrorKind>) {
        self.lock().failure = failure;
    }

    pub(super) fn set_identity(&self, identity: Identity) {
        self.lock().identity = identity;
    }

    /// Makes the agent learn its identity again, as after a restart.
    pub(super) fn forget_identity(&self) {
        self.lock().is_identity_known = false;
    }

    /// Returns the agent's identity, if it has learnt it.
    pub(super) fn known_identity(&self) -> Option<Identity> {
        let state = self.lock();
        state.is_identity_known.then_some(state.identity)
    }

    /// Returns the calls since the last time.
    pub(super) fn take_calls(&self) -> Vec<KmsCall> {
        std::mem::take(&mut self.lock().calls)
    }

    fn lock(&self) -> MutexGuard<'_, FakeKmsState> {
        self.state.lock().expect("no test thread panicked")
    }
}

impl FakeKmsState {
    fn find(&self, secret: &SecretRef) -> Result<FakeVersion, SourceError> {
        let name = secret.id.as_str();
        let versions = self.secrets.get(name).map(|secret| &secret.versions[..]);
        let Some((current, older)) = versions.and_then(<[FakeVersion]>::split_last) else {
            return Err(SourceError::new(
                SourceErrorKind::Decision,
                "the secret does not exist",
            ));
        };
        let wanted = match (secret.selector.version_id(), secret.selector.stage()) {
            (Some(id), _) if name != MANAGED => versions
                .unwrap_or_default()
                .iter()
                .find(|version| version.number.to_string() == id),
            (_, Some(_)) => older.last(),
            _ => Some(current),
        };
        wanted
            .copied()
            .ok_or_else(|| SourceError::new(SourceErrorKind::Refused, "the version does not exist"))
    }
}

#[async_trait]
impl SecretSource for FakeKms {
    fn scope(&self) -> Option<Arc<Scope>> {
        self.known_identity().map(scope_of)
    }

    async fn learn_scope(&self, _arrived_at: Duration) {}

    fn region(&self) -> Option<Arc<str>> {
        None
    }

    fn credentials(&self) -> CredentialState {
        CredentialState::default()
    }

    fn hindrance(&self) -> Option<SourceErrorKind> {
        None
    }

    fn confirms_clock(&self) -> bool {
        true
    }

    async fn fetch(&self, request: FetchRequest<'_>) -> Result<Fetched, SourceError> {
        assert!(request.gate.pass(), "a cancelled fetch reached KMS");
        let secret = request.secret;
        let (boot, wall) = (self.clock.boot(), self.clock.wall());
        let mut state = self.lock();
        let found = match state.failure {
            Some(kind) => Err(SourceError::new(kind, "failure")),
            None => state.find(secret),
        };
        let result = found.map(|version| {
            state.answers += 1;
            let text = format!(
                "{} {} {} {}",
                secret.id.as_str(),
                version.number,
                state.identity,
                state.answers
            );
            let ahead = version.rotates_at.map(|at| at.checked_sub(boot));
            let fetched = answer(&text);
            let fetched = Fetched {
                secret: Secret {
                    answer: SecretValue::new(text.as_bytes().to_vec().into()),
                    version_id: version.number.to_string().into(),
                    ..fetched.secret
                },
                scope: scope_of(state.identity),
                // KMS shows a late rotation at the planned time.
                rotates_at: ahead.map(|ahead| wall.plus(ahead.unwrap_or_default())),
            };
            (
                fetched,
                text,
                ahead.flatten().filter(|ahead| !ahead.is_zero()),
            )
        });
        let outcome = match &result {
            Ok((fetched, text, rotates_after)) => match secret.selector.version_id() {
                Some(wanted) if *fetched.secret.version_id != *wanted => KmsOutcome::Refused,
                _ => KmsOutcome::Value {
                    text: text.clone(),
                    rotates_after: *rotates_after,
                },
            },
            Err(error) if error.kind() == SourceErrorKind::Decision => KmsOutcome::Decided,
            Err(error) if error.kind().is_transient() => KmsOutcome::Failed,
            Err(_) => KmsOutcome::Refused,
        };
        // An answer shows that the credentials were accepted.
        state.is_identity_known |= !matches!(outcome, KmsOutcome::Failed);
        let call = KmsCall {
            secret: secret.clone(),
            identity: state.identity,
            outcome,
        };
        state.calls.push(call);
        result.map(|(fetched, ..)| fetched)
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

impl fmt::Debug for FakeKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeKms")
    }
}
