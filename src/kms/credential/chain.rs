use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use kms_agent_core::Clock;

use super::context::ProviderContext;
use super::ecs::{self, EcsRamRoleProvider};
use super::environment;
use super::misconfigured::Misconfigured;
use super::oidc::{self, OidcProvider};
use super::profile::{Place, ProfileProvider};
use super::provider::{CredentialError, CredentialProvider, Obtained, Origin};
use super::uri::{self, UriProvider};
use crate::settings::ProviderChoice;

/// The provider that is the agent's identity: the one the operator names, else the first of the official
/// chain that is configured. Once chosen it stays, however it fares.
pub(crate) fn choose(
    choice: ProviderChoice,
    context: &ProviderContext,
) -> Box<dyn CredentialProvider> {
    let environment = &context.environment;
    match choice {
        ProviderChoice::Default if environment::is_configured(environment) => {
            choose(ProviderChoice::Environment, context)
        }
        ProviderChoice::Default if oidc::is_configured(environment) => {
            choose(ProviderChoice::Oidc, context)
        }
        ProviderChoice::Default => Box::new(Chain::after_oidc(context)),
        ProviderChoice::Profile => Box::new(Chain::of_profiles(context)),
        ProviderChoice::Environment => boxed(environment::NAME, environment::parse(environment)),
        ProviderChoice::Oidc => boxed(oidc::NAME, OidcProvider::parse(&context.sts, environment)),
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

/// What can only be chosen by looking which files are there.
#[derive(Debug)]
struct Chain {
    places: Vec<Place>,
    context: ProviderContext,
    /// Who is asked where none of the files is there.
    otherwise: Arc<dyn CredentialProvider>,
    /// Whether `otherwise` is configured too, rather than the last resort. The last resort is chosen once it
    /// has worked: until then a file may still appear.
    otherwise_is_configured: bool,
    chosen: OnceLock<Arc<dyn CredentialProvider>>,
}

impl Chain {
    /// The official chain from the profiles on. An instance's role counts as configured when it is named, and
    /// else is the last resort.
    fn after_oidc(context: &ProviderContext) -> Self {
        let environment = &context.environment;
        let has_metadata = context.metadata.is_some();
        let named = has_metadata && ecs::is_configured(environment);
        let has_uri = uri::is_configured(environment);
        let otherwise = if named {
            choose(ProviderChoice::EcsRamRole, context)
        } else if has_metadata && !has_uri {
            let metadata = context.metadata.as_ref();
            boxed(
                ecs::NAME,
                EcsRamRoleProvider::last_resort(metadata, environment),
            )
        } else if has_uri {
            choose(ProviderChoice::Uri, context)
        } else {
            Box::new(Misconfigured::new(
                "none",
                CredentialError::new(
                    "no credentials are configured; set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, or \
                     what another provider needs (the metadata service is disabled by ALIBABA_CLOUD_ECS_METADATA_DISABLED)",
                ),
            ))
        };
        Self::new(context, otherwise, named || has_uri)
    }

    fn of_profiles(context: &ProviderContext) -> Self {
        let what = Place::none_of(&Place::all(&context.environment));
        let nothing = Misconfigured::new("profile", Origin::new("from a profile").error(what));
        Self::new(context, Box::new(nothing), false)
    }

    fn new(
        context: &ProviderContext,
        otherwise: Box<dyn CredentialProvider>,
        otherwise_is_configured: bool,
    ) -> Self {
        Self {
            places: Place::all(&context.environment),
            context: context.clone(),
            otherwise: otherwise.into(),
            otherwise_is_configured,
            chosen: OnceLock::new(),
        }
    }

    /// Chooses where that can be done, and returns who is to be asked now.
    async fn provider(&self) -> &Arc<dyn CredentialProvider> {
        if let Some(chosen) = self.chosen.get() {
            return chosen;
        }
        if let Some(place) = Place::first_configured(&self.places).await {
            let provider = ProfileProvider::new(place.clone(), self.context.clone());
            return self.chosen.get_or_init(|| Arc::new(provider));
        }
        if self.otherwise_is_configured {
            return self.chosen.get_or_init(|| Arc::clone(&self.otherwise));
        }
        &self.otherwise
    }

    fn clock(&self) -> &dyn Clock {
        &*self.context.sts.clock
    }
}

#[async_trait]
impl CredentialProvider for Chain {
    fn name(&self) -> &'static str {
        self.chosen.get().unwrap_or(&self.otherwise).name()
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
            None => Place::appearance(&self.places, self.clock()).await,
        }
    }
}

#[cfg(test)]
mod tests;
