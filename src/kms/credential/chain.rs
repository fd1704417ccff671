use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::Clock;

use super::ecs::{self, EcsRamRoleProvider};
use super::environment::{self, EnvironmentProvider};
use super::misconfigured::Misconfigured;
use super::oidc::{self, OidcProvider, Sts};
use super::provider::{CredentialError, CredentialProvider};
use super::uri::{self, UriProvider};
use crate::environment::Environment;
use crate::http::HttpSend;
use crate::metadata::Metadata;
use crate::settings::{CredentialSettings, ProviderChoice};

const ROLE_VARIABLE: &str = "ALIBABA_CLOUD_ECS_METADATA";

/// The ways out that providers use.
#[derive(Clone, Debug)]
pub(crate) struct Outlets {
    /// To STS.
    pub(crate) sts: Arc<dyn HttpSend>,
    /// How long STS may take for one answer.
    pub(crate) sts_timeout: Duration,
    /// To a credentials URI.
    pub(crate) uri: Arc<dyn HttpSend>,
    /// To the metadata service; none where that is disabled.
    pub(crate) metadata: Option<Metadata>,
}

/// The provider that is the agent's identity: the one the operator names, else the first of the official
/// chain that is configured. Once chosen it stays, however it fares.
pub(crate) fn choose(
    settings: &CredentialSettings,
    environment: &Environment,
    outlets: &Outlets,
    clock: &Arc<dyn Clock>,
) -> Box<dyn CredentialProvider> {
    let choice = match settings.provider {
        ProviderChoice::Default => first_configured(environment, outlets),
        named => Some(named),
    };
    match choice {
        Some(ProviderChoice::Environment) => {
            boxed(environment::NAME, EnvironmentProvider::parse(environment))
        }
        Some(ProviderChoice::Oidc) => {
            let sts = Sts {
                http: Arc::clone(&outlets.sts),
                endpoint: settings.sts_endpoint.clone(),
                timeout: outlets.sts_timeout,
            };
            boxed(
                oidc::NAME,
                OidcProvider::parse(sts, environment, Arc::clone(clock)),
            )
        }
        Some(ProviderChoice::EcsRamRole) => boxed(ecs::NAME, ecs_ram_role(environment, outlets)),
        Some(ProviderChoice::Uri) => boxed(
            uri::NAME,
            UriProvider::parse(Arc::clone(&outlets.uri), environment),
        ),
        Some(ProviderChoice::Default) | None => Box::new(Misconfigured::new(
            "none",
            CredentialError::new(
                "no credentials are configured, and the metadata service is disabled by \
                 ALIBABA_CLOUD_ECS_METADATA_DISABLED; set ALIBABA_CLOUD_ACCESS_KEY_ID and \
                 ALIBABA_CLOUD_ACCESS_KEY_SECRET, or the variables of another provider",
            ),
        )),
    }
}

/// An instance's role counts as configured when it is named, and else is the last resort.
fn first_configured(environment: &Environment, outlets: &Outlets) -> Option<ProviderChoice> {
    let has_metadata = outlets.metadata.is_some();
    [
        (
            environment::is_configured(environment),
            ProviderChoice::Environment,
        ),
        (oidc::is_configured(environment), ProviderChoice::Oidc),
        (
            has_metadata && environment.given(ROLE_VARIABLE).is_some(),
            ProviderChoice::EcsRamRole,
        ),
        (uri::is_configured(environment), ProviderChoice::Uri),
        (has_metadata, ProviderChoice::EcsRamRole),
    ]
    .into_iter()
    .find_map(|(configured, choice)| configured.then_some(choice))
}

fn ecs_ram_role(
    environment: &Environment,
    outlets: &Outlets,
) -> Result<EcsRamRoleProvider, CredentialError> {
    let metadata = outlets.metadata.clone().ok_or_else(|| {
        CredentialError::new(
            "credentials of the ECS RAM role: the metadata service is disabled by \
             ALIBABA_CLOUD_ECS_METADATA_DISABLED; unset it, or configure another provider",
        )
    })?;
    Ok(EcsRamRoleProvider::new(
        metadata,
        environment.given(ROLE_VARIABLE),
    ))
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

/// Whether the credentials URI, where there is one, asks for TLS.
pub(crate) fn uri_is_secure(environment: &Environment) -> bool {
    uri::is_secure(environment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;
    use crate::testing::{ManualClock, Script};

    const KEY: [(&str, &str); 2] = [
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI"),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "s"),
    ];
    const OIDC: [(&str, &str); 3] = [
        ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/agent"),
        (
            "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
            "acs:ram::1:oidc-provider/x",
        ),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/no/such/token"),
    ];
    const ECS: [(&str, &str); 1] = [("ALIBABA_CLOUD_ECS_METADATA", "web")];
    const URI: [(&str, &str); 1] = [("ALIBABA_CLOUD_CREDENTIALS_URI", "http://10.0.0.1/")];

    fn chosen(
        provider: ProviderChoice,
        variables: &[&[(&str, &str)]],
        metadata: bool,
    ) -> Box<dyn CredentialProvider> {
        let http: Arc<dyn HttpSend> = Script::new();
        let outlets = Outlets {
            sts: Arc::clone(&http),
            sts_timeout: Duration::from_secs(5),
            uri: Arc::clone(&http),
            metadata: metadata.then(|| Metadata::new(http, Endpoint::metadata(), true)),
        };
        let settings = CredentialSettings {
            provider,
            ..CredentialSettings::default()
        };
        let environment = variables.concat().into_iter().collect();
        let clock: Arc<dyn Clock> = ManualClock::new();
        choose(&settings, &environment, &outlets, &clock)
    }

    #[test]
    fn the_first_configured_provider_is_the_identity() {
        for (variables, metadata, name, identity) in [
            (
                vec![&KEY[..], &OIDC, &ECS, &URI],
                true,
                "environment",
                Some("LTAI"),
            ),
            (
                vec![&OIDC[..], &ECS, &URI],
                true,
                "oidc",
                Some("acs:ram::1:role/agent"),
            ),
            (vec![&ECS[..], &URI], true, "ecs_ram_role", Some("web")),
            (vec![&URI[..]], true, "uri", Some("http://10.0.0.1/")),
            (vec![], true, "ecs_ram_role", None),
            (vec![&ECS[..], &URI], false, "uri", Some("http://10.0.0.1/")),
            (vec![&ECS[..]], false, "none", None),
        ] {
            let provider = chosen(ProviderChoice::Default, &variables, metadata);
            assert_eq!(provider.name(), name);
            assert_eq!(provider.identity().as_deref(), identity);
        }
    }

    #[tokio::test]
    async fn a_provider_that_cannot_work_never_lets_another_step_in() {
        let half = [("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI")];
        let provider = chosen(ProviderChoice::Default, &[&half, &OIDC], true);
        assert_eq!(provider.name(), "environment");
        assert!(provider.obtain().await.is_err());

        let provider = chosen(ProviderChoice::Oidc, &[&KEY], true);
        assert_eq!(provider.name(), "oidc");
        let text = provider.obtain().await.expect_err("not set up").to_string();
        assert!(text.contains("ALIBABA_CLOUD_ROLE_ARN"), "{text}");

        let provider = chosen(ProviderChoice::EcsRamRole, &[&KEY], false);
        assert_eq!(provider.name(), "ecs_ram_role");
        let text = provider.obtain().await.expect_err("disabled").to_string();
        assert!(
            text.contains("ALIBABA_CLOUD_ECS_METADATA_DISABLED"),
            "{text}"
        );

        let provider = chosen(ProviderChoice::Default, &[], false);
        let text = provider.obtain().await.expect_err("nothing").to_string();
        assert!(text.contains("ALIBABA_CLOUD_ACCESS_KEY_ID"), "{text}");
    }
}
