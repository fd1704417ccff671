//! Secrets as tests put them.

mod store;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::refusal::InvalidOrder;

pub(crate) use store::{Reading, Secrets, Summary, Wanted};

/// Stage of the current version.
pub(crate) const CURRENT: &str = "ACSCurrent";
/// Stage of the previous version.
pub(crate) const PREVIOUS: &str = "ACSPrevious";

/// `SecretType`. All but `Generic` are managed: KMS rotates them itself and ignores `VersionId` for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretType {
    /// Any value of the owner.
    #[default]
    Generic,
    /// An account of an RDS instance.
    Rds,
    /// An account of a `PolarDB` cluster.
    PolarDB,
    /// An account of a Redis instance.
    Redis,
    /// A RAM user's access key.
    RAMCredentials,
    /// A login of an ECS instance.
    ECS,
}

impl SecretType {
    pub(crate) fn is_managed(self) -> bool {
        self != Self::Generic
    }
}

/// `SecretDataType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// Text.
    #[default]
    Text,
    /// Bytes, in the owner's encoding; usually base64.
    Binary,
}

/// Members that only secrets with rotation have, returned unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    /// `AutomaticRotation`: `Enabled`, `Disabled` or `Invalid`.
    pub automatic: Option<String>,
    /// `RotationInterval`, such as `604800s`.
    pub interval: Option<String>,
    /// `LastRotationDate`.
    pub last_at: Option<String>,
    /// `NextRotationDate`.
    pub next_at: Option<String>,
    /// `ExtendedConfig`, a string that holds JSON. Only returned on request.
    pub extended_config: Option<String>,
}

/// State of a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretState {
    /// Readable.
    #[default]
    Available,
    /// The caller may not read it: `Forbidden.NoPermission`, whether it exists or not.
    Denied,
    /// Its key is disabled: `Rejected.Disabled`.
    KeyDisabled,
    /// Its key does not exist: `Forbidden.KeyNotFound`.
    KeyNotFound,
    /// It is scheduled for deletion: `Rejected.ResourceInDeleteWindow`.
    InDeleteWindow,
}

/// An order to add a version to a secret, which is created if it does not exist.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutSecret {
    /// Name, without an ARN around it.
    pub name: String,
    value: String,
    /// `SecretDataType` of this version.
    #[serde(default)]
    pub data_type: DataType,
    /// `SecretType`; `None` keeps what the secret has, `Generic` at first.
    #[serde(default, rename = "type")]
    pub secret_type: Option<SecretType>,
    /// Id of the new version; `None` creates 32 random hex digits.
    #[serde(default)]
    pub version_id: Option<String>,
    /// Stages of the new version, taken from the versions that have them; `None` means `ACSCurrent`. The first
    /// version of a secret is always `ACSCurrent`.
    #[serde(default)]
    pub stages: Option<Vec<String>>,
    /// Rotation members from now on; `None` keeps what the secret has.
    #[serde(default)]
    pub rotation: Option<Rotation>,
    /// Tags from now on; `None` keeps what the secret has.
    #[serde(default)]
    pub tags: Option<BTreeMap<String, String>>,
}

impl PutSecret {
    /// Creates an order for a new current version.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            data_type: DataType::default(),
            secret_type: None,
            version_id: None,
            stages: None,
            rotation: None,
            tags: None,
        }
    }

    /// Makes the value binary.
    #[must_use]
    pub fn binary(mut self) -> Self {
        self.data_type = DataType::Binary;
        self
    }

    /// Sets the type of the secret and its rotation members.
    #[must_use]
    pub fn managed(mut self, secret_type: SecretType, rotation: Rotation) -> Self {
        self.secret_type = Some(secret_type);
        self.rotation = Some(rotation);
        self
    }

    /// Adds a tag of the secret.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let tags = self.tags.get_or_insert_default();
        tags.insert(key.into(), value.into());
        self
    }

    /// Sets the id of the version.
    #[must_use]
    pub fn version_id(mut self, id: impl Into<String>) -> Self {
        self.version_id = Some(id.into());
        self
    }

    /// Sets the stages of the version.
    #[must_use]
    pub fn stages<S: Into<String>>(mut self, stages: impl IntoIterator<Item = S>) -> Self {
        self.stages = Some(stages.into_iter().map(Into::into).collect());
        self
    }

    fn check(&self) -> Result<(), InvalidOrder> {
        if !is_name(&self.name) {
            return Err(InvalidOrder::new(
                "name must be 1 to 192 characters, none of them a control character",
            ));
        }
        let short = |text: &str| {
            (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if self.version_id.as_deref().is_some_and(|id| !short(id)) {
            return Err(InvalidOrder::new(
                "version_id must be 1 to 64 visible ASCII characters",
            ));
        }
        let stages = self.stages.iter().flatten();
        if stages.into_iter().any(|stage| !short(stage)) {
            return Err(InvalidOrder::new(
                "each of stages must be 1 to 64 visible ASCII characters",
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for PutSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutSecret")
            .field("name", &self.name)
            .field("version_id", &self.version_id)
            .field("stages", &self.stages)
            .finish_non_exhaustive()
    }
}

/// Returns whether `text` can name a secret. KMS allows only `A-Z a-z 0-9 _ / + = . @ -`; the emulator accepts
/// other text too, to test a client's encoding with difficult names.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=192).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_an_order_does_not_show_the_value() {
        let text = format!("{:?}", PutSecret::new("app/db", "hunter2"));
        assert!(
            text.contains("app/db") && !text.contains("hunter2"),
            "{text}"
        );
    }

    #[test]
    fn an_impossible_name_is_refused() {
        for name in ["", "a\nb", &"a".repeat(193)] {
            assert!(PutSecret::new(name, "v").check().is_err(), "{name}");
        }
        for name in ["A/z_0+=.@-", "a b%2F&*~", &"ä".repeat(192)] {
            assert!(PutSecret::new(name, "v").check().is_ok(), "{name}");
        }
    }
}
