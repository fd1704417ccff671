//! Names of secrets, keys of entries, and answers of a source.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use crate::lifetime::Timestamp;
use crate::value::SecretValue;

/// The longest secret id accepted, in bytes. KMS allows 192 characters in a name; an ARN adds its prefix.
pub const MAX_ID_BYTES: usize = 512;

/// The longest version id or stage accepted, in bytes.
pub const MAX_SELECTOR_BYTES: usize = 512;

const MAX_LOGGED_BYTES: usize = 256;

/// The stage KMS answers when none is named.
pub const CURRENT_STAGE: &str = "ACSCurrent";

/// The stage of the version before the current one.
pub const PREVIOUS_STAGE: &str = "ACSPrevious";

/// A secret's name or full ARN, exactly as the reader gave it.
///
/// A name and an ARN of the same secret are different ids: which account a bare name belongs to is for KMS
/// to say.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretId(Arc<str>);

/// The reason why a text is not an id, version id or stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// Nothing was given.
    #[error("is empty")]
    Empty,
    /// More bytes than the given limit.
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    /// An ASCII or Unicode control character.
    #[error("contains a control character")]
    Control,
}

fn check(text: &str, limit: usize) -> Result<(), InvalidText> {
    if text.is_empty() {
        Err(InvalidText::Empty)
    } else if text.len() > limit {
        Err(InvalidText::TooLong(limit))
    } else if text.chars().any(char::is_control) {
        Err(InvalidText::Control)
    } else {
        Ok(())
    }
}

impl SecretId {
    /// Accepts 1 to [`MAX_ID_BYTES`] bytes without control characters.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        check(text, MAX_ID_BYTES)?;
        Ok(Self(text.into()))
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts of the ARN, when the id is one.
    pub fn arn(&self) -> Option<SecretArn<'_>> {
        let (region, rest) = self.0.strip_prefix("acs:kms:")?.split_once(':')?;
        let (account, resource) = rest.split_once(':')?;
        let name = resource.strip_prefix("secret/")?;
        Some(SecretArn {
            region,
            account,
            name,
        })
    }

    /// Bare secret name as a log line may hold it.
    pub fn loggable_name(&self) -> &str {
        loggable(self.name())
    }

    /// The bare secret name: of an ARN its last part, otherwise the id itself.
    pub fn name(&self) -> &str {
        self.arn().map_or(&self.0, |arn| arn.name)
    }
}

impl fmt::Debug for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// As much of a client's text as a log line may hold: 256 bytes, cut between characters.
pub fn loggable(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_LOGGED_BYTES))
        .unwrap_or(text)
}

/// `acs:kms:<region>:<account>:secret/<name>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretArn<'a> {
    /// Region id, possibly empty.
    pub region: &'a str,
    /// Account id, possibly empty.
    pub account: &'a str,
    /// The secret's name.
    pub name: &'a str,
}

/// Which version of a secret is wanted.
///
/// A spelled-out current stage and no selector at all are the same thing, and so share a cache entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionSelector {
    version_id: Option<Arc<str>>,
    stage: Option<Arc<str>>,
}

impl VersionSelector {
    /// The current version.
    pub const CURRENT: Self = Self {
        version_id: None,
        stage: None,
    };

    /// Empty strings count as absent; the AWS names of the two standard stages stand for the KMS ones.
    pub fn parse(version_id: Option<&str>, stage: Option<&str>) -> Result<Self, InvalidText> {
        let given = |text: Option<&str>| match text {
            None | Some("") => Ok(None),
            Some(text) => check(text, MAX_SELECTOR_BYTES).map(|()| Some(Arc::from(text))),
        };
        let version_id = given(version_id)?;
        let stage = given(stage)?.map(|stage| match &*stage {
            "AWSCURRENT" => Arc::from(CURRENT_STAGE),
            "AWSPREVIOUS" => Arc::from(PREVIOUS_STAGE),
            _ => stage,
        });
        if version_id.is_none() && stage.as_deref() == Some(CURRENT_STAGE) {
            return Ok(Self::CURRENT);
        }
        Ok(Self { version_id, stage })
    }

    /// The version id that must hold.
    pub fn version_id(&self) -> Option<&str> {
        self.version_id.as_deref()
    }

    /// The stage that must hold; `None` with no version id means the current one.
    pub fn stage(&self) -> Option<&str> {
        self.stage.as_deref()
    }
}

impl fmt::Display for VersionSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.version_id(), self.stage()) {
            (None, None) => f.write_str(CURRENT_STAGE),
            (Some(id), None) => f.write_str(id),
            (None, Some(stage)) => f.write_str(stage),
            (Some(id), Some(stage)) => write!(f, "{id}/{stage}"),
        }
    }
}

/// A secret and the version of it that a reader named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretRef {
    /// Name or ARN.
    pub id: SecretId,
    /// Version id, stage, both or the current one.
    pub selector: VersionSelector,
}

/// Endpoint and identity of a fetch. One identity may read what another may not, so no entry is
/// answered outside the scope it was fetched in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// The KMS endpoint: host, with its port where that is not the default.
    pub endpoint: Box<str>,
    /// A stable name of the agent's own identity: the static `AccessKeyId`, else the role ARN, role name,
    /// profile or URI. Never a secret.
    pub identity: Box<str>,
}

/// Key of a cached entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretKey {
    /// Endpoint and identity.
    pub scope: Arc<Scope>,
    /// The secret and its version.
    pub secret: SecretRef,
}

impl Hash for SecretKey {
    /// By the secret alone: there is hardly ever more than one scope, and every hit would hash it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.secret.hash(state);
    }
}

impl SecretKey {
    /// The unambiguous bytes of the key: every part preceded by its length as a little-endian `u32`, an
    /// absent part by `u32::MAX` alone. Equal keys have equal bytes and different keys different ones, so
    /// a backend may store, hash or order them.
    pub fn encode(&self) -> Vec<u8> {
        let selector = &self.secret.selector;
        let parts = [
            Some(&*self.scope.endpoint),
            Some(&*self.scope.identity),
            Some(self.secret.id.as_str()),
            selector.version_id(),
            selector.stage(),
        ];
        let mut bytes =
            Vec::with_capacity(parts.iter().flatten().map(|part| part.len()).sum::<usize>() + 20);
        for part in parts {
            let length = part.map_or(u32::MAX, |part| {
                u32::try_from(part.len()).unwrap_or(u32::MAX - 1)
            });
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(part.unwrap_or_default().as_bytes());
        }
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut part = || -> Option<Option<String>> {
            let (length, rest) = bytes.split_first_chunk::<4>()?;
            bytes = rest;
            let length = match u32::from_le_bytes(*length) {
                u32::MAX => return Some(None),
                length => usize::try_from(length).ok()?,
            };
            let (text, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            Some(Some(std::str::from_utf8(text).ok()?.to_owned()))
        };
        let (endpoint, identity, id) = (part()??, part()??, part()??);
        let (version_id, stage) = (part()?, part()?);
        if !bytes.is_empty() {
            return None;
        }
        Some(Self {
            scope: Arc::new(Scope {
                endpoint: endpoint.into(),
                identity: identity.into(),
            }),
            secret: SecretRef {
                id: SecretId::parse(&id).ok()?,
                selector: VersionSelector::parse(version_id.as_deref(), stage.as_deref()).ok()?,
            },
        })
    }
}

/// The `VersionStages` of an answer. Those of nearly every answer, `ACSCurrent` alone, are one list for all.
pub fn stages<S: Deref<Target = str>>(names: &[S]) -> Arc<[Box<str>]> {
    static CURRENT: LazyLock<Arc<[Box<str>]>> = LazyLock::new(|| Arc::new([CURRENT_STAGE.into()]));
    match names {
        [name] if **name == *CURRENT_STAGE => Arc::clone(&CURRENT),
        names => names.iter().map(|name| Box::from(&**name)).collect(),
    }
}

/// One version of a secret as the source answered it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Secret {
    /// The GetSecretValue answer, byte for byte as received.
    pub answer: SecretValue,
    /// The `VersionId` in it.
    pub version_id: Arc<str>,
    /// The `VersionStages` in it.
    pub stages: Arc<[Box<str>]>,
}

/// Answer of a source.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The answer.
    pub secret: Secret,
    /// The scope that the answer was fetched in, which is known by now even if it was not before.
    pub scope: Arc<Scope>,
    /// The `NextRotationDate` in the answer, by the wall clock.
    pub rotates_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, version_id: Option<&str>, stage: Option<&str>) -> SecretKey {
        SecretKey {
            scope: Arc::new(Scope {
                endpoint: "kms.cn-hangzhou.aliyuncs.com".into(),
                identity: "LTAI".into(),
            }),
            secret: SecretRef {
                id: SecretId::parse(id).expect("valid id"),
                selector: VersionSelector::parse(version_id, stage).expect("valid selector"),
            },
        }
    }

    #[test]
    fn an_arn_is_taken_apart_and_a_name_is_not() {
        let id = SecretId::parse("acs:kms:cn-hangzhou:1234:secret/app/db").expect("valid");
        assert_eq!(id.name(), "app/db");
        assert_eq!(id.arn().map(|arn| arn.region), Some("cn-hangzhou"));
        let id = SecretId::parse("acs/ram/user/a:b").expect("valid");
        assert_eq!(id.arn(), None);
        assert_eq!(id.name(), "acs/ram/user/a:b");
    }

    #[test]
    fn ids_are_bounded_text_without_control_characters() {
        assert_eq!(SecretId::parse(""), Err(InvalidText::Empty));
        assert_eq!(SecretId::parse("a\nb"), Err(InvalidText::Control));
        assert!(SecretId::parse(&"ü".repeat(256)).is_ok());
        assert_eq!(
            SecretId::parse(&"ü".repeat(257)),
            Err(InvalidText::TooLong(512))
        );
    }

    #[test]
    fn every_way_to_say_current_is_the_same_selector() {
        for stage in [None, Some(""), Some("ACSCurrent"), Some("AWSCURRENT")] {
            assert_eq!(
                VersionSelector::parse(Some(""), stage),
                Ok(VersionSelector::CURRENT)
            );
        }
        let both = VersionSelector::parse(Some("v1"), Some("AWSCURRENT")).expect("valid");
        assert_eq!(
            (both.version_id(), both.stage()),
            (Some("v1"), Some("ACSCurrent"))
        );
    }

    #[test]
    fn key_bytes_round_trip_and_tell_every_part_apart() {
        let keys = [
            key("a", None, None),
            key("a", Some("b"), None),
            key("a", None, Some("b")),
            key("a", Some("b"), Some("ACSCurrent")),
            key("ab", None, None),
        ];
        for (i, one) in keys.iter().enumerate() {
            assert_eq!(SecretKey::decode(&one.encode()).as_ref(), Some(one));
            for (j, other) in keys.iter().enumerate() {
                assert_eq!(one.encode() == other.encode(), i == j);
            }
        }
        assert_eq!(SecretKey::decode(b"junk"), None);
    }
}
