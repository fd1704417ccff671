//! Secrets with their versions.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use time::OffsetDateTime;

use crate::state::secret::{
    CURRENT, DataType, PREVIOUS, PutSecret, Rotation, SecretState, SecretType,
};
use crate::wire::refusal::{InvalidOrder, ServiceRefusal};

/// Most versions of a secret. Beyond that the oldest one without a stage is removed.
const VERSIONS: usize = 100;

/// A version of a secret.
pub(crate) struct StoredVersion {
    pub(crate) id: String,
    pub(crate) data: String,
    pub(crate) data_type: DataType,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) stages: BTreeSet<String>,
}

#[derive(Default)]
struct StoredSecret {
    secret_type: SecretType,
    rotation: Rotation,
    tags: BTreeMap<String, String>,
    /// Versions, oldest first.
    versions: Vec<StoredVersion>,
}

impl StoredSecret {
    /// Takes `stage` from its version, and returns the index of that version.
    fn release(&mut self, stage: &str) -> Option<usize> {
        let holder = self
            .versions
            .iter()
            .position(|version| version.stages.contains(stage));
        if let Some(version) = holder.and_then(|index| self.versions.get_mut(index)) {
            version.stages.remove(stage);
        }
        holder
    }

    /// Takes the stages of a new version from the versions that have them. The current version becomes previous.
    fn release_all(&mut self, stages: &BTreeSet<String>) {
        for stage in stages {
            let holder = self.release(stage);
            if stage == CURRENT && holder.is_some() && !stages.contains(PREVIOUS) {
                self.release(PREVIOUS);
                if let Some(version) = holder.and_then(|index| self.versions.get_mut(index)) {
                    version.stages.insert(PREVIOUS.to_owned());
                }
            }
        }
    }

    fn trim(&mut self) {
        if self.versions.len() > VERSIONS
            && let Some(index) = self.versions.iter().position(|old| old.stages.is_empty())
        {
            self.versions.remove(index);
        }
    }
}

/// Requested version.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) version_id: Option<&'a str>,
    pub(crate) stage: Option<&'a str>,
}

/// Result of a read.
pub(crate) struct Reading<'a> {
    pub(crate) secret_type: SecretType,
    pub(crate) rotation: &'a Rotation,
    pub(crate) version: &'a StoredVersion,
}

/// A secret in a list.
pub(crate) struct Summary<'a> {
    pub(crate) name: &'a str,
    pub(crate) secret_type: SecretType,
    pub(crate) tags: &'a BTreeMap<String, String>,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) updated_at: OffsetDateTime,
}

/// Secrets by name.
#[derive(Default)]
pub(crate) struct Secrets {
    kept: HashMap<String, StoredSecret>,
    /// States by name, separate because a name that does not exist can be denied.
    states: HashMap<String, SecretState>,
}

impl Secrets {
    /// Adds a version, with the id `drawn` unless the order names one, and returns its id.
    pub(crate) fn put(
        &mut self,
        order: PutSecret,
        drawn: String,
        now: OffsetDateTime,
    ) -> Result<String, InvalidOrder> {
        order.check()?;
        let kept = self.kept.get(&order.name);
        let id = order.version_id.unwrap_or(drawn);
        if kept.is_some_and(|kept| kept.versions.iter().any(|version| version.id == id)) {
            return Err(InvalidOrder::new("the secret has a version of that id"));
        }
        let kept = self.kept.entry(order.name).or_default();
        let mut stages: BTreeSet<String> = match order.stages {
            Some(stages) => stages.into_iter().collect(),
            None => BTreeSet::from([CURRENT.to_owned()]),
        };
        if kept.versions.is_empty() {
            stages.insert(CURRENT.to_owned());
        }
        kept.release_all(&stages);
        kept.versions.push(StoredVersion {
            id: id.clone(),
            data: order.value,
            data_type: order.data_type,
            created_at: now,
            stages,
        });
        kept.trim();
        if let Some(secret_type) = order.secret_type {
            kept.secret_type = secret_type;
        }
        if let Some(rotation) = order.rotation {
            kept.rotation = rotation;
        }
        if let Some(tags) = order.tags {
            kept.tags = tags;
        }
        Ok(id)
    }

    /// Returns every secret, in the order of the names. Also denied ones: a list needs a permission of its own.
    pub(crate) fn list(&self) -> Vec<Summary<'_>> {
        let mut summaries: Vec<_> = self
            .kept
            .iter()
            .filter_map(|(name, kept)| {
                Some(Summary {
                    name,
                    secret_type: kept.secret_type,
                    tags: &kept.tags,
                    created_at: kept.versions.first()?.created_at,
                    updated_at: kept.versions.last()?.created_at,
                })
            })
            .collect();
        summaries.sort_unstable_by_key(|secret| secret.name);
        summaries
    }

    /// Removes a secret with all versions; returns false if it does not exist.
    pub(crate) fn delete(&mut self, name: &str) -> bool {
        self.kept.remove(name).is_some()
    }

    /// Sets the state of a secret.
    pub(crate) fn set_state(&mut self, name: &str, state: SecretState) {
        self.states.insert(name.to_owned(), state);
    }

    /// Returns a version, by the rules of GetSecretValue.
    pub(crate) fn read(
        &self,
        name: &str,
        wanted: Wanted<'_>,
    ) -> Result<Reading<'_>, ServiceRefusal> {
        let state = self.states.get(name).copied().unwrap_or_default();
        if state == SecretState::Denied {
            return Err(ServiceRefusal::kms(
                403,
                "Forbidden.NoPermission",
                "This operation is forbidden by permission system.",
            ));
        }
        let kept = self.kept.get(name).ok_or_else(ServiceRefusal::not_found)?;
        check_state(state)?;
        let version = if kept.secret_type.is_managed() {
            by_stage(kept, wanted.stage.unwrap_or(CURRENT))?
        } else {
            by_id_or_stage(kept, wanted)?
        };
        Ok(Reading {
            secret_type: kept.secret_type,
            rotation: &kept.rotation,
            version,
        })
    }
}

fn by_stage<'a>(kept: &'a StoredSecret, stage: &str) -> Result<&'a StoredVersion, ServiceRefusal> {
    let mut versions = kept.versions.iter();
    versions
        .find(|version| version.stages.contains(stage))
        .ok_or_else(ServiceRefusal::not_found)
}

fn by_id_or_stage<'a>(
    kept: &'a StoredSecret,
    wanted: Wanted<'_>,
) -> Result<&'a StoredVersion, ServiceRefusal> {
    let Some(id) = wanted.version_id else {
        return by_stage(kept, wanted.stage.unwrap_or(CURRENT));
    };
    let mut versions = kept.versions.iter();
    let version = versions.find(|version| version.id == id);
    let version = version.ok_or_else(ServiceRefusal::not_found)?;
    let holds = |stage: &str| version.stages.contains(stage);
    if wanted.stage.is_none_or(holds) {
        return Ok(version);
    }
    Err(ServiceRefusal::kms(
        400,
        "InvalidParameter",
        "The specified VersionId does not have the specified VersionStage.",
    ))
}

fn check_state(state: SecretState) -> Result<(), ServiceRefusal> {
    let (status, code, message) = match state {
        SecretState::Available | SecretState::Denied => return Ok(()),
        SecretState::KeyDisabled => (
            409,
            "Rejected.Disabled",
            "The request was rejected because the key state is Disabled.",
        ),
        SecretState::KeyNotFound => (
            404,
            "Forbidden.KeyNotFound",
            "The specified Key is not found.",
        ),
        SecretState::InDeleteWindow => (
            409,
            "Rejected.ResourceInDeleteWindow",
            "The secret is scheduled for deletion.",
        ),
    };
    Err(ServiceRefusal::kms(status, code, message))
}
