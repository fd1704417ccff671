//! Refusals and failures that one agent tells the others.

use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::secret::SecretKey;
use kms_agent_core::source::KmsRefusal;
use kms_agent_core::{SourceError, SourceErrorKind};
use kms_agent_sealed::seal::CannotSeal;
use serde_json::{Value, json};

use crate::keyring::{Binding, Epoch, Keyring, Kind};
use crate::record::Stamped;

/// Kinds that are told, by their name on the server.
const KINDS: [(&str, SourceErrorKind); 12] = [
    ("unavailable", SourceErrorKind::Unavailable),
    ("timed-out", SourceErrorKind::TimedOut),
    ("throttled", SourceErrorKind::Throttled),
    ("server-failure", SourceErrorKind::ServerFailure),
    ("invalid-answer", SourceErrorKind::InvalidAnswer),
    ("clock-skew", SourceErrorKind::ClockSkew),
    ("no-credentials", SourceErrorKind::NoCredentials),
    ("identity-refused", SourceErrorKind::IdentityRefused),
    ("account-refused", SourceErrorKind::AccountRefused),
    ("decision", SourceErrorKind::Decision),
    ("refused", SourceErrorKind::Refused),
    ("version-not-found", SourceErrorKind::VersionNotFound),
];

/// Seals `error`. `None` for one that concerns its own agent only, such as its own budget.
pub(crate) fn seal(
    keyring: &Keyring,
    epoch: &Epoch,
    generation: &[u8],
    key: &SecretKey,
    error: &SourceError,
    retry_after: Duration,
) -> Option<Result<Vec<u8>, CannotSeal>> {
    let (kind, _) = KINDS.iter().find(|(_, kind)| *kind == error.kind())?;
    let refusal = error.refusal().map(|refusal| {
        json!({
            "status": refusal.status,
            "code": refusal.code,
            "message": refusal.message,
            "request_id": refusal.request_id,
        })
    });
    let retry_after = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
    let note = json!({ "kind": kind, "refusal": refusal, "retry_after_ms": retry_after });
    let binding = Binding {
        epoch,
        generation,
        key,
        kind: Kind::Note,
    };
    Some(
        keyring
            .seal(binding, note.to_string().as_bytes(), b"")
            .map(|sealed| sealed.to_vec()),
    )
}

/// Opens a note. `None` for one that was changed, moved or replayed.
pub(crate) fn open(
    keyring: &Keyring,
    epoch: &Epoch,
    key: &SecretKey,
    stamped: Stamped<'_>,
) -> Option<Arc<SourceError>> {
    let binding = Binding {
        epoch,
        generation: stamped.generation,
        key,
        kind: Kind::Note,
    };
    let header = keyring.open_header(binding, stamped.sealed).ok()?;
    let note: Value = serde_json::from_slice(&header).ok()?;
    let name = note.get("kind")?.as_str()?;
    let (_, kind) = KINDS.iter().find(|(known, _)| *known == name)?;
    let retry_after = note.get("retry_after_ms").and_then(Value::as_u64);
    let mut error = SourceError::new(*kind, "another agent of the fleet asked KMS and failed")
        .with_retry_after(retry_after.filter(|it| *it > 0).map(Duration::from_millis));
    if let Some(refusal) = note.get("refusal").filter(|it| it.is_object()) {
        error = error.with_refusal(KmsRefusal {
            status: u16::try_from(refusal.get("status")?.as_u64()?).ok()?,
            code: refusal.get("code")?.as_str()?.to_owned(),
            message: refusal.get("message")?.as_str()?.to_owned(),
            request_id: refusal
                .get("request_id")
                .and_then(Value::as_str)
                .map(str::to_owned),
        });
    }
    Some(Arc::new(error))
}
