//! Header of a record, in clear: everything but the secret value.

use std::sync::Arc;

use kms_agent_core::secret::stages;
use kms_agent_core::{CacheEntry, Lifetime, Resumed, Scope, SecretKey, Timestamp};

/// Header of a record. The key of the secret stays encoded until [`key`](Self::key) is called.
#[derive(Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Fetch time, rotation and expiry.
    pub lifetime: Lifetime,
    /// Version of the secret.
    pub version_id: &'a str,
    /// Stages of the version.
    pub stages: Vec<&'a str>,
    key: &'a [u8],
}

impl<'a> Header<'a> {
    /// Encodes the header of `entry`.
    pub fn encode(key: &SecretKey, entry: &CacheEntry) -> Vec<u8> {
        let lifetime = &entry.lifetime;
        let mut bytes = Vec::new();
        put_instant(&mut bytes, lifetime.fetched_at);
        bytes.push(u8::from(lifetime.rotates_at.is_some()));
        if let Some(rotates_at) = lifetime.rotates_at {
            put_instant(&mut bytes, rotates_at);
        }
        put_instant(&mut bytes, lifetime.usable_until);
        put_text(&mut bytes, &entry.secret.version_id);
        put_length(&mut bytes, entry.secret.stages.len());
        for stage in entry.secret.stages.iter() {
            put_text(&mut bytes, stage);
        }
        bytes.extend_from_slice(&key.encode());
        bytes
    }

    /// Decodes the output of [`encode`](Self::encode); `None` for anything else.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        let lifetime = Lifetime {
            fetched_at: rest.instant()?,
            rotates_at: match rest.chunk()? {
                [0] => None,
                [1] => Some(rest.instant()?),
                _ => return None,
            },
            usable_until: rest.instant()?,
        };
        let version_id = rest.text()?;
        let count = rest.length()?;
        let stages = (0..count).map(|_| rest.text()).collect::<Option<_>>()?;
        Some(Self {
            lifetime,
            version_id,
            stages,
            key: rest.0,
        })
    }

    /// Decodes the key of the secret.
    pub fn key(&self) -> Option<SecretKey> {
        SecretKey::decode(self.key)
    }

    /// Returns the stages as an entry holds them.
    pub fn owned_stages(&self) -> Arc<[Box<str>]> {
        stages(&self.stages)
    }
}

/// Encodes the note for the next process.
pub fn encode_resumed(resumed: &Resumed) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_instant(&mut bytes, resumed.written_at);
    put_instant(&mut bytes, resumed.wall_at);
    put_text(&mut bytes, &resumed.scope.endpoint);
    put_text(&mut bytes, &resumed.scope.identity);
    put_instant(&mut bytes, resumed.counted_from);
    bytes
}

/// Decodes the note of the previous process; `None` for anything else.
pub fn decode_resumed(bytes: &[u8]) -> Option<Resumed> {
    let mut rest = Rest(bytes);
    let (written_at, wall_at) = (rest.instant()?, rest.instant()?);
    let scope = Arc::new(Scope {
        endpoint: rest.text()?.into(),
        identity: rest.text()?.into(),
    });
    // Notes of earlier releases end here: their wall clock was read at `written_at`.
    let counted_from = if rest.0.is_empty() {
        written_at
    } else {
        rest.instant()?
    };
    rest.0.is_empty().then_some(Resumed {
        scope,
        written_at,
        wall_at,
        counted_from,
    })
}

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    // No field is ever this long; if one were, decoding would find damage.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_length(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

fn put_instant(bytes: &mut Vec<u8>, at: Timestamp) {
    bytes.extend_from_slice(&at.as_millis().to_le_bytes());
}

/// Bytes not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.chunk()?)).ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.length()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn instant(&mut self) -> Option<Timestamp> {
        self.chunk()
            .map(i64::from_le_bytes)
            .map(Timestamp::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use kms_agent_core::{Secret, SecretId, SecretRef, SecretValue, VersionSelector};
    use zeroize::Zeroizing;

    use super::*;

    fn sample(rotates_at: Option<Timestamp>) -> (SecretKey, CacheEntry) {
        let key = SecretKey {
            scope: Arc::new(Scope {
                endpoint: "kms.example".into(),
                identity: "role".into(),
            }),
            secret: SecretRef {
                id: SecretId::parse("app/db").unwrap(),
                selector: VersionSelector::parse(Some("v1"), None).unwrap(),
            },
        };
        let entry = CacheEntry {
            secret: Secret {
                answer: SecretValue::new(Zeroizing::new(b"canary".to_vec())),
                version_id: "v1".into(),
                stages: ["ACSCurrent".into(), "ü".into()].into(),
            },
            lifetime: Lifetime {
                fetched_at: Timestamp::from_millis(-5),
                rotates_at,
                usable_until: Timestamp::from_millis(i64::MAX),
            },
        };
        (key, entry)
    }

    #[test]
    fn a_header_round_trips_and_leaves_the_value_out() {
        for rotates_at in [None, Some(Timestamp::from_millis(77))] {
            let (key, entry) = sample(rotates_at);
            let bytes = Header::encode(&key, &entry);
            assert!(!bytes.windows(6).any(|part| part == b"canary"));
            let header = Header::decode(&bytes).unwrap();
            assert_eq!(header.lifetime, entry.lifetime);
            assert_eq!(header.version_id, "v1");
            assert_eq!(header.owned_stages(), entry.secret.stages);
            assert_eq!(header.key(), Some(key));
        }
    }

    #[test]
    fn anything_shorter_is_not_a_header() {
        let (key, entry) = sample(Some(Timestamp::from_millis(77)));
        let bytes = Header::encode(&key, &entry);
        for length in 0..bytes.len() {
            let read = Header::decode(&bytes[..length]).and_then(|header| header.key());
            assert_eq!(read, None, "{length} bytes were enough");
        }
    }

    #[test]
    fn what_is_resumed_round_trips() {
        let (key, _) = sample(None);
        let resumed = Resumed {
            scope: key.scope,
            written_at: Timestamp::from_millis(1_234_567),
            wall_at: Timestamp::from_millis(7_654_321),
            counted_from: Timestamp::from_millis(1_000_000),
        };
        let bytes = encode_resumed(&resumed);
        assert_eq!(decode_resumed(&bytes), Some(resumed.clone()));
        for length in [bytes.len() - 1, bytes.len() - 7] {
            assert_eq!(decode_resumed(&bytes[..length]), None);
        }
        assert_eq!(decode_resumed(&bytes[1..]), None);
        let earlier_release = Resumed {
            counted_from: resumed.written_at,
            ..resumed
        };
        let bytes = &bytes[..bytes.len() - 8];
        assert_eq!(decode_resumed(bytes), Some(earlier_release));
    }
}
