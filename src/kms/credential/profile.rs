//! Profiles in files: that of Alibaba Cloud's command line tool, and the SDKs' ini file.

mod cli;
mod ini;
mod place;
mod plan;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kms_agent_core::Clock;
use zeroize::Zeroizing;

use self::place::LOOK_EVERY;
pub(super) use self::place::Place;
use self::plan::Plan;
use super::parts::Parts;
use super::provider::{CredentialError, CredentialProvider, Obtained};
use crate::file;
use crate::sign::fingerprint;

/// Profiles are a few hundred bytes each.
const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Who the chosen profile of a file says the agent is. The file is read anew each time.
#[derive(Debug)]
pub(super) struct ProfileProvider {
    place: Place,
    parts: Parts,
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

/// What the file said when it was last read.
#[derive(Debug, Default)]
struct Seen {
    /// `None` where it could not be read.
    fingerprint: Option<String>,
    /// Who it made the agent, the last time it could be understood.
    identity: Option<Arc<str>>,
}

impl ProfileProvider {
    pub(super) fn new(place: Place, parts: Parts) -> Self {
        Self {
            place,
            clock: Arc::clone(&parts.outlets.sts.clock),
            parts,
            seen: Mutex::default(),
        }
    }

    async fn read(&self) -> (io::Result<Zeroizing<Vec<u8>>>, Option<String>) {
        let read = file::read(self.place.path.clone(), MAX_FILE_BYTES).await;
        let fingerprint = read.as_ref().ok().map(|bytes| fingerprint(bytes));
        (read, fingerprint)
    }

    /// The provider that the file means.
    async fn resolve(&self) -> Result<Box<dyn CredentialProvider>, CredentialError> {
        let origin = self.place.origin();
        let (read, fingerprint) = self.read().await;
        self.lock().fingerprint = fingerprint;
        let bytes = read.map_err(|error| {
            origin.error(format_args!(
                "it cannot be read: {error}; {}",
                self.place.remedy()
            ))
        })?;
        let (profile, plan) = self
            .place
            .form
            .parse(&bytes, self.place.profile.as_deref())
            .map_err(|what| origin.error(format_args!("{what}; {}", self.place.remedy())))?;
        self.lock().identity = plan.identity(&profile);
        self.provider(&profile, plan)
    }

    fn provider(
        &self,
        profile: &str,
        plan: Plan,
    ) -> Result<Box<dyn CredentialProvider>, CredentialError> {
        plan.provider(
            self.place.form.name(),
            &self.place.origin_of(profile),
            profile,
            &self.parts,
        )
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl CredentialProvider for ProfileProvider {
    fn name(&self) -> &'static str {
        self.place.form.name()
    }

    fn identity(&self) -> Option<Arc<str>> {
        self.lock().identity.clone()
    }

    fn renewable(&self) -> bool {
        true
    }

    async fn obtain(&self) -> Result<Obtained, CredentialError> {
        self.resolve().await?.obtain().await
    }

    async fn changed(&self) {
        loop {
            self.clock.sleep_until(self.clock.boot() + LOOK_EVERY).await;
            let (_, fingerprint) = self.read().await;
            if fingerprint != self.lock().fingerprint {
                return;
            }
        }
    }
}

/// All that is said of `bytes` in either form.
#[cfg(fuzzing)]
pub(super) fn fuzz(bytes: &[u8], wanted: Option<&str>) -> String {
    let said = [place::Form::Cli, place::Form::Ini].map(|form| match form.parse(bytes, wanted) {
        Ok((name, plan)) => format!("{name:?} {:?} {plan:?}", plan.identity(&name)),
        Err(what) => what,
    });
    said.join("\n")
}

#[cfg(test)]
mod tests;
