//! The agent's own credentials: what they are, where they come from, and when they are renewed.

mod cached;
mod chain;
mod context;
mod ecs;
mod environment;
mod fixed;
mod misconfigured;
mod oidc;
mod profile;
mod provider;
mod response;
mod role;
mod sts;
mod uri;

use std::path::PathBuf;

pub(crate) use self::cached::{CachedCredential, Lease};
pub(crate) use self::chain::choose;
pub(crate) use self::context::ProviderContext;
pub(crate) use self::sts::Sts;
pub(crate) use self::uri::{is_exposed as uri_is_exposed, is_secure as uri_is_secure};
use crate::host::Environment;
use crate::settings::ProviderChoice;

/// Files that the provider of `choice` may read, wherever the environment says that they are.
pub(crate) fn files(choice: ProviderChoice, environment: &Environment) -> Vec<PathBuf> {
    match chain::before_profiles(choice, environment) {
        ProviderChoice::Default | ProviderChoice::Profile => {
            profile::ProfilePlace::all(environment)
                .into_iter()
                .flat_map(profile::ProfilePlace::into_files)
                .collect()
        }
        decided => named_files(decided, environment),
    }
}

/// Those of them that decide who the agent is, as `choice` and the environment have it by now.
pub(crate) fn deciding_files(choice: ProviderChoice, environment: &Environment) -> Vec<PathBuf> {
    match chain::before_profiles(choice, environment) {
        ProviderChoice::Default | ProviderChoice::Profile => {
            let places = profile::ProfilePlace::all(environment);
            profile::ProfilePlace::first_configured_now(places)
                .map_or_else(Vec::new, profile::ProfilePlace::into_files)
        }
        decided => named_files(decided, environment),
    }
}

/// Files of a provider that reads no profile.
fn named_files(decided: ProviderChoice, environment: &Environment) -> Vec<PathBuf> {
    let token = (decided == ProviderChoice::Oidc).then(|| environment.given(oidc::TOKEN_FILE));
    token.flatten().map(PathBuf::from).into_iter().collect()
}

/// All that is said of a file that may hold profiles.
#[cfg(fuzzing)]
pub(crate) fn fuzz_profile(bytes: &[u8], wanted: Option<&str>) -> String {
    profile::fuzz(bytes, wanted)
}

/// Reads temporary credentials in both forms.
#[cfg(fuzzing)]
pub(crate) fn fuzz_issued(body: &[u8]) {
    for credential in [response::parse_flat(body), response::parse_sts(body)]
        .into_iter()
        .flatten()
    {
        assert!(
            !credential.access_key_id().is_empty() && !credential.access_key_secret().is_empty()
        );
        assert!(credential.security_token().is_some() && credential.expires_at().is_some());
    }
}
