//! The choice of the provider that is the agent's identity: the one that the operator names, else the first of the
//! default chain that is configured. Once chosen it stays, however it fares.
//!
//! The default chain is that of the official SDKs:
//!
//! 1. a key in the environment, where half of one counts too;
//! 2. OIDC, where the environment holds all of its three variables;
//! 3. a profile, of the first file that a variable names or that exists;
//! 4. the RAM role of the ECS instance that `ALIBABA_CLOUD_ECS_METADATA` names;
//! 5. the service at `ALIBABA_CLOUD_CREDENTIALS_URI`;
//! 6. the RAM role that is attached to the ECS instance, as the last resort.
//!
//! The environment decides all of them but the third: a file may appear later, until another provider is chosen or
//! the last resort has worked.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use kms_agent_core::Clock;

use super::context::ProviderContext;
use super::ecs::{self, EcsRamRoleProvider};
use super::environment;
use super::misconfigured::Misconfigured;
use super::oidc::{self, OidcProvider};
use super::profile::{ProfilePlace, ProfileProvider};
use super::provider::{CredentialError, CredentialProvider, Obtained, Origin};
use super::uri::{self, UriProvider};
use crate::host::Environment;
use crate::settings::ProviderChoice;

const NOTHING_CONFIGURED: &str = "no credentials are configured; set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, or what another provider needs (the metadata service is disabled by ALIBABA_CLOUD_ECS_METADATA_DISABLED)";

/// The provider of `choice`.
pub(crate) fn choose(
    choice: ProviderChoice,
    context: &ProviderContext,
) -> Box<dyn CredentialProvider> {
    let environment = &context.environment;
    match before_profiles(choice, environment) {
        ProviderChoice::Environment => boxed(environment::NAME, environment::parse(environment)),
        ProviderChoice::Oidc => boxed(oidc::NAME, OidcProvider::parse(&context.sts, environment)),
        ProviderChoice::Profile => Box::new(ProfileFirst::or_nothing(context)),
        ProviderChoice::EcsRamRole => boxed(
            ecs::NAME,
            EcsRamRoleProvider::parse(
                ecs::NAME,
                Origin::new("of the ECS RAM role"),
                context.metadata.as_ref(),
                None,
                environment,
            ),
        ),
        ProviderChoice::Uri => boxed(
            uri::NAME,
            UriProvider::parse(Arc::clone(&context.uri), environment),
        ),
        ProviderChoice::Default => Box::new(ProfileFirst::or_rest_of_chain(context)),
    }
}

/// The choice that the first links of the default chain turn `choice` into: still the default where the files of
/// profiles have to be looked for.
pub(super) fn before_profiles(choice: ProviderChoice, environment: &Environment) -> ProviderChoice {
    match choice {
        ProviderChoice::Default if environment::is_configured(environment) => {
            ProviderChoice::Environment
        }
        ProviderChoice::Default if oidc::is_configured(environment) => ProviderChoice::Oidc,
        choice => choice,
    }
}

fn boxed<P: CredentialProvider>(
    name: &'static str,
    provider: Result<P, CredentialError>,
) -> Box<dyn CredentialProvider> {
    match provider {
        Ok(provider) => Box::new(provider),
        Err(error) => Box::new(Misconfigured::new(name, error)),
    }
}

/// A profile where one of the files exists, else a fallback. Only looking for the files tells.
#[derive(Debug)]
struct ProfileFirst {
    places: Vec<ProfilePlace>,
    context: ProviderContext,
    fallback: Arc<dyn CredentialProvider>,
    /// Whether the fallback is configured and thus chosen as soon as no file is found. Another is chosen once it has
    /// worked.
    fallback_is_configured: bool,
    chosen: OnceLock<Arc<dyn CredentialProvider>>,
}

impl ProfileFirst {
    /// With the links of the default chain behind the profiles as the fallback.
    fn or_rest_of_chain(context: &ProviderContext) -> Self {
        let environment = &context.environment;
        let metadata = context.metadata.as_ref();
        let (fallback, is_configured): (Box<dyn CredentialProvider>, _) =
            if metadata.is_some() && ecs::is_configured(environment) {
                (choose(ProviderChoice::EcsRamRole, context), true)
            } else if uri::is_configured(environment) {
                (choose(ProviderChoice::Uri, context), true)
            } else if metadata.is_some() {
                let attached = EcsRamRoleProvider::last_resort(metadata, environment);
                (boxed(ecs::NAME, attached), false)
            } else {
                let error = CredentialError::new(NOTHING_CONFIGURED);
                (Box::new(Misconfigured::new("none", error)), false)
            };
        Self::new(context, fallback, is_configured)
    }

    /// With an error as the fallback.
    fn or_nothing(context: &ProviderContext) -> Self {
        let what = ProfilePlace::none_of(&ProfilePlace::all(&context.environment));
        let nothing = Misconfigured::new("profile", Origin::new("from a profile").error(what));
        Self::new(context, Box::new(nothing), false)
    }

    fn new(
        context: &ProviderContext,
        fallback: Box<dyn CredentialProvider>,
        fallback_is_configured: bool,
    ) -> Self {
        Self {
            places: ProfilePlace::all(&context.environment),
            context: context.clone(),
            fallback: fallback.into(),
            fallback_is_configured,
            chosen: OnceLock::new(),
        }
    }

    /// Chooses where that can be done, and returns the provider to ask now.
    async fn provider(&self) -> &Arc<dyn CredentialProvider> {
        if let Some(chosen) = self.chosen.get() {
            return chosen;
        }
        if let Some(place) = ProfilePlace::first_configured(&self.places).await {
            let provider = ProfileProvider::new(place.clone(), self.context.clone());
            return self.chosen.get_or_init(|| Arc::new(provider));
        }
        if self.fallback_is_configured {
            return self.chosen.get_or_init(|| Arc::clone(&self.fallback));
        }
        &self.fallback
    }

    fn clock(&self) -> &dyn Clock {
        &*self.context.sts.clock
    }
}

#[async_trait]
impl CredentialProvider for ProfileFirst {
    fn name(&self) -> &'static str {
        self.chosen.get().unwrap_or(&self.fallback).name()
    }

    fn identity(&self) -> Option<Arc<str>> {
        self.chosen.get()?.identity()
    }

    fn place(&self) -> Option<String> {
        self.chosen.get()?.place()
    }

    fn renewable(&self) -> bool {
        // As long as nothing is chosen, a file may appear.
        self.chosen.get().is_none_or(|chosen| chosen.renewable())
    }

    async fn obtain(&self) -> Result<Obtained, CredentialError> {
        let provider = self.provider().await;
        let obtained = provider.obtain().await?;
        self.chosen.get_or_init(|| Arc::clone(provider));
        Ok(obtained)
    }

    async fn changed(&self) {
        match self.chosen.get() {
            Some(chosen) => chosen.changed().await,
            None => ProfilePlace::appearance(&self.places, self.clock()).await,
        }
    }
}

#[cfg(test)]
mod tests;
