//! KMS as it is: which versions each secret has, and who may ask.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use kms_agent_core::secret::Fetched;
use kms_agent_core::source::{CredentialState, FetchRequest};
use kms_agent_core::{
    Clock, Scope, Secret, SecretRef, SecretSource, SecretValue, SourceError, SourceErrorKind,
    VersionSelector,
};
use kms_agent_test_support::{ManualClock, answer, secret_ref};

/// The secrets there may be.
pub(super) const NAMES: [&str; 3] = ["a", "b", MANAGED];

/// A secret of a kind for which KMS pays no heed to the version asked for.
const MANAGED: &str = "managed";

/// Which version of a secret is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    Current,
    Previous,
    Numbered(u32),
}

/// What to ask for.
pub(super) fn reference(name: usize, which: Which) -> SecretRef {
    let selector = match which {
        Which::Current => Ok(VersionSelector::CURRENT),
        Which::Previous => VersionSelector::parse(None, Some("ACSPrevious")),
        Which::Numbered(number) => VersionSelector::parse(Some(&number.to_string()), None),
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
pub(super) struct Call {
    pub(super) secret: SecretRef,
    /// As whom.
    pub(super) identity: Identity,
    pub(super) outcome: Outcome,
}

/// What the agent is to make of a call.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Value {
        /// Unlike any other answer.
        text: String,
        /// For how much longer, if the secret is due to be rotated.
        rotates_after: Option<Duration>,
    },
    /// It is not to be had.
    Decided,
    /// No, for another reason; it may be had all the same.
    Refused,
    /// No answer.
    Failed,
}

pub(super) struct World {
    clock: ManualClock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    secrets: HashMap<&'static str, Stored>,
    trouble: Option<SourceErrorKind>,
    identity: Identity,
    /// Whether the agent has learnt its identity since it started.
    is_identity_known: bool,
    calls: Vec<Call>,
    answers: u64,
}

/// A secret as KMS has it.
#[derive(Default)]
struct Stored {
    /// The current one last.
    versions: Vec<Version>,
    /// Numbers are not used again, not even after a deletion.
    last_number: u32,
}

#[derive(Clone, Copy)]
struct Version {
    number: u32,
    /// By boot time.
    rotates_at: Option<Duration>,
}

impl World {
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
        secret.versions.push(Version {
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

    pub(super) fn set_trouble(&self, trouble: Option<SourceErrorKind>) {
        self.lock().trouble = trouble;
    }

    pub(super) fn set_identity(&self, identity: Identity) {
        self.lock().identity = identity;
    }

    /// The agent has started anew and knows nobody.
    pub(super) fn forget_identity(&self) {
        self.lock().is_identity_known = false;
    }

    /// Whom the agent knows itself to be.
    pub(super) fn known_identity(&self) -> Option<Identity> {
        let state = self.lock();
        state.is_identity_known.then_some(state.identity)
    }

    /// The calls since this was last asked.
    pub(super) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.lock().calls)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panicked with it")
    }
}

impl State {
    fn find(&self, secret: &SecretRef) -> Result<Version, SourceError> {
        let name = secret.id.as_str();
        let versions = self.secrets.get(name).map(|secret| &secret.versions[..]);
        let Some((current, older)) = versions.and_then(<[Version]>::split_last) else {
            return Err(SourceError::new(
                SourceErrorKind::Decision,
                "there is no such secret",
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
            .ok_or_else(|| SourceError::new(SourceErrorKind::Refused, "there is no such version"))
    }
}

#[async_trait]
impl SecretSource for World {
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
        assert!(request.gate.pass(), "a fetch began that was given up");
        let secret = request.secret;
        let (boot, wall) = (self.clock.boot(), self.clock.wall());
        let mut state = self.lock();
        let found = match state.trouble {
            Some(kind) => Err(SourceError::new(kind, "trouble")),
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
                // A rotation that is late is shown as it was planned.
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
                Some(wanted) if *fetched.secret.version_id != *wanted => Outcome::Refused,
                _ => Outcome::Value {
                    text: text.clone(),
                    rotates_after: *rotates_after,
                },
            },
            Err(error) if error.kind() == SourceErrorKind::Decision => Outcome::Decided,
            Err(error) if error.kind().is_transient() => Outcome::Failed,
            Err(_) => Outcome::Refused,
        };
        // Whoever is answered has shown credentials.
        state.is_identity_known |= !matches!(outcome, Outcome::Failed);
        let call = Call {
            secret: secret.clone(),
            identity: state.identity,
            outcome,
        };
        state.calls.push(call);
        result.map(|(fetched, ..)| fetched)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}
