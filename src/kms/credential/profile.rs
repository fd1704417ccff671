//! Profiles in files: that of Alibaba Cloud's command line tool, and the SDKs' ini file.

mod cli;
mod ini;
mod place;
mod plan;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kms_agent_core::Clock;
use zeroize::Zeroizing;

pub(super) use self::place::ProfilePlace;
use self::plan::ProfilePlan;
use super::context::ProviderContext;
use super::provider::{CredentialError, CredentialProvider, Obtained};
use crate::host::digest::fingerprint;
use crate::host::file::{self, FileError, LOOK_EVERY};

/// Profiles are a few hundred bytes each.
const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Identity that the chosen profile of a file describes. The file is read each time.
#[derive(Debug)]
pub(super) struct ProfileProvider {
    place: ProfilePlace,
    context: ProviderContext,
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

/// Content of the file when it was last read.
#[derive(Debug, Default)]
struct Seen {
    /// `None` where it could not be read.
    fingerprint: Option<String>,
    /// Identity, the last time that the file could be parsed.
    meant: Option<Who>,
    /// The profile that says so, and the file.
    place: Option<String>,
    /// Identity, the last time that the file gave credentials.
    gave: Option<Who>,
}

/// Identity that a profile means, as far as it names one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Named(Arc<str>),
    /// Whichever role the instance has.
    Instance,
}

impl Who {
    fn of(plan: &ProfilePlan, profile: &str) -> Self {
        plan.identity(profile).map_or(Self::Instance, Self::Named)
    }
}

/// Identity of an instance's role that is not known yet, and is not the one that the file meant before.
const UNKNOWN_ROLE: &str = "ecs_ram_role";

impl ProfileProvider {
    pub(super) fn new(place: ProfilePlace, context: ProviderContext) -> Self {
        Self {
            place,
            clock: Arc::clone(&context.sts.clock),
            context,
            seen: Mutex::default(),
        }
    }

    async fn read(&self) -> (Result<Zeroizing<Vec<u8>>, FileError>, Option<String>) {
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
                self.place.remedy_of(&error)
            ))
        })?;
        let (profile, plan) = self
            .place
            .form
            .parse(&bytes, self.place.profile.as_deref())
            .map_err(|what| origin.error(format_args!("{what}; {}", self.place.remedy())))?;
        let mut seen = self.lock();
        seen.meant = Some(Who::of(&plan, &profile));
        seen.place = Some(self.place.words_of(&profile));
        drop(seen);
        self.provider(&profile, plan)
    }

    fn provider(
        &self,
        profile: &str,
        plan: ProfilePlan,
    ) -> Result<Box<dyn CredentialProvider>, CredentialError> {
        plan.provider(
            self.place.form.name(),
            &self.place.origin_of(profile),
            profile,
            &self.context,
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
        let seen = self.lock();
        match seen.meant.as_ref()? {
            Who::Named(identity) => Some(Arc::clone(identity)),
            Who::Instance
                if seen
                    .gave
                    .as_ref()
                    .is_some_and(|gave| *gave != Who::Instance) =>
            {
                Some(UNKNOWN_ROLE.into())
            }
            Who::Instance => None,
        }
    }

    fn place(&self) -> Option<String> {
        self.lock().place.clone()
    }

    fn renewable(&self) -> bool {
        true
    }

    async fn obtain(&self) -> Result<Obtained, CredentialError> {
        let obtained = self.resolve().await?.obtain().await?;
        let mut seen = self.lock();
        let meant = seen.meant.clone();
        seen.gave = meant;
        Ok(obtained)
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

/// The text of a profile file, without the mark that some editors put before it.
fn decode(bytes: &[u8]) -> Result<&str, String> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err("it is UTF-16 text; save it as UTF-8".to_owned());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
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
