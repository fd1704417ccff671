//! Entry as bytes: a line of JSON, then the value as it is.

use std::sync::Arc;

use kms_agent_core::{
    CacheEntry, Lifetime, Scope, Secret, SecretId, SecretKey, SecretRef, SecretValue, Timestamp,
    VersionSelector,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

#[derive(Serialize, Deserialize)]
struct Header {
    endpoint: Box<str>,
    identity: Box<str>,
    id: String,
    wanted_version_id: Option<String>,
    wanted_stage: Option<String>,
    version_id: Box<str>,
    stages: Vec<Box<str>>,
    fetched_at: i64,
    rotates_at: Option<i64>,
    usable_until: i64,
    /// Size of the value in bytes.
    length: usize,
}

pub(crate) fn encode(key: &SecretKey, entry: &CacheEntry) -> Zeroizing<Vec<u8>> {
    let selector = &key.secret.selector;
    let header = serde_json::json!(Header {
        endpoint: key.scope.endpoint.clone(),
        identity: key.scope.identity.clone(),
        id: key.secret.id.as_str().to_owned(),
        wanted_version_id: selector.version_id().map(str::to_owned),
        wanted_stage: selector.stage().map(str::to_owned),
        version_id: (*entry.secret.version_id).into(),
        stages: entry.secret.stages.to_vec(),
        fetched_at: entry.lifetime.fetched_at.as_millis(),
        rotates_at: entry.lifetime.rotates_at.map(Timestamp::as_millis),
        usable_until: entry.lifetime.usable_until.as_millis(),
        length: entry.secret.answer.len(),
    });
    let header = header.to_string();
    // The final capacity: a buffer that grows leaves copies behind.
    let size = header.len() + 1 + entry.secret.answer.len();
    let mut bytes = Zeroizing::new(Vec::with_capacity(size));
    bytes.extend_from_slice(header.as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(entry.secret.answer.expose());
    bytes
}

/// Decodes the output of [`encode`]; `None` for anything else.
pub(crate) fn decode(bytes: &[u8]) -> Option<(SecretKey, CacheEntry)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (header, value) = (bytes.get(..end)?, bytes.get(end + 1..)?);
    let header: Header = serde_json::from_slice(header).ok()?;
    if value.len() != header.length {
        return None;
    }
    let (version_id, stage) = (
        header.wanted_version_id.as_deref(),
        header.wanted_stage.as_deref(),
    );
    let key = SecretKey {
        scope: Arc::new(Scope {
            endpoint: header.endpoint,
            identity: header.identity,
        }),
        secret: SecretRef {
            id: SecretId::parse(&header.id).ok()?,
            selector: VersionSelector::parse(version_id, stage).ok()?,
        },
    };
    let entry = CacheEntry {
        secret: Secret {
            answer: SecretValue::new(Zeroizing::new(value.to_vec())),
            version_id: header.version_id.into(),
            stages: header.stages.into(),
        },
        lifetime: Lifetime {
            fetched_at: Timestamp::from_millis(header.fetched_at),
            rotates_at: header.rotates_at.map(Timestamp::from_millis),
            usable_until: Timestamp::from_millis(header.usable_until),
        },
    };
    Some((key, entry))
}

pub(crate) fn encode_scope(scope: &Scope) -> String {
    serde_json::json!([scope.endpoint, scope.identity]).to_string()
}

pub(crate) fn decode_scope(bytes: &[u8]) -> Option<Scope> {
    let (endpoint, identity) = serde_json::from_slice(bytes).ok()?;
    Some(Scope { endpoint, identity })
}
