use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kms_agent_core::Clock;
use zeroize::Zeroizing;

use super::issued::{issuer_time, parse_sts};
use super::provider::{CredentialError, CredentialProvider, Obtained};
use crate::endpoint::Endpoint;
use crate::environment::Environment;
use crate::error::is_clock_skew;
use crate::file;
use crate::http::{HttpRequest, HttpResponse, HttpSend, Method};
use crate::region::Region;
use crate::sign::encode_pairs;
use crate::skew::Skew;
use crate::wire::{MAX_CREDENTIAL_BYTES, Said, is_word};

pub(super) const NAME: &str = "oidc";

const ROLE: &str = "ALIBABA_CLOUD_ROLE_ARN";
const IDENTITY_PROVIDER: &str = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN";
pub(crate) const TOKEN_FILE: &str = "ALIBABA_CLOUD_OIDC_TOKEN_FILE";
const SESSION_NAME: &str = "ALIBABA_CLOUD_ROLE_SESSION_NAME";
const STS_REGION: &str = "ALIBABA_CLOUD_STS_REGION";
const INNER: &str = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED";

const FORM: &str = "application/x-www-form-urlencoded";
const DURATION_SECONDS: &str = "3600";

/// STS takes at most 20,000 characters.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// A role that is assumed with the token of an OIDC provider, such as a Kubernetes service account (RRSA).
#[derive(Debug)]
pub(super) struct OidcProvider {
    http: Arc<dyn HttpSend>,
    endpoint: Endpoint,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    role: Arc<str>,
    identity_provider: String,
    token_file: PathBuf,
    session_name: String,
}

/// How STS is reached.
pub(super) struct Sts {
    pub(super) http: Arc<dyn HttpSend>,
    /// As configured; else the environment says.
    pub(super) endpoint: Option<Endpoint>,
    pub(super) timeout: Duration,
}

/// Whether the environment holds all that it takes.
pub(super) fn is_configured(environment: &Environment) -> bool {
    [ROLE, IDENTITY_PROVIDER, TOKEN_FILE]
        .iter()
        .all(|name| environment.given(name).is_some())
}

impl OidcProvider {
    pub(super) fn parse(
        sts: Sts,
        environment: &Environment,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CredentialError> {
        let required = |name| {
            environment.given(name).ok_or_else(|| {
                CredentialError::new(format!(
                    "credentials by OIDC: {name} is not set; set {ROLE}, {IDENTITY_PROVIDER} and {TOKEN_FILE}"
                ))
            })
        };
        let endpoint = match sts.endpoint {
            Some(endpoint) => endpoint,
            None => official_endpoint(environment)?,
        };
        Ok(Self {
            http: sts.http,
            endpoint,
            timeout: sts.timeout,
            clock,
            role: required(ROLE)?.into(),
            identity_provider: required(IDENTITY_PROVIDER)?.to_owned(),
            token_file: required(TOKEN_FILE)?.into(),
            session_name: environment
                .given(SESSION_NAME)
                .map_or_else(session_name, str::to_owned),
        })
    }

    async fn read_token(&self) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
        file::read(self.token_file.clone(), MAX_TOKEN_BYTES)
            .await
            .map_err(|error| self.token_error(&error))
    }

    fn token_error(&self, what: &dyn fmt::Display) -> CredentialError {
        let path: &Path = &self.token_file;
        CredentialError::new(format!(
            "credentials by OIDC: the token file {} ({TOKEN_FILE}): {what}",
            path.display()
        ))
    }

    fn error(&self, what: &dyn fmt::Display) -> CredentialError {
        CredentialError::new(format!(
            "credentials by OIDC: AssumeRoleWithOIDC for {} at {}: {what}; check the role, the OIDC provider and \
             the way to STS",
            self.role.escape_debug(),
            self.endpoint.authority()
        ))
    }

    async fn ask(&self, token: &str, skew: Skew) -> Result<HttpResponse, CredentialError> {
        self.http
            .send(self.request(token, skew))
            .await
            .map_err(|error| self.error(&error))
    }

    /// The call is not signed: the token is what proves the caller. It goes into the body, so that it stands
    /// in no URL.
    fn request(&self, token: &str, skew: Skew) -> HttpRequest {
        let timestamp = skew.date(self.clock.wall()).unwrap_or_default();
        let query = encode_pairs(&[
            ("Action", "AssumeRoleWithOIDC"),
            ("Version", "2015-04-01"),
            ("Format", "JSON"),
            ("Timestamp", &timestamp),
        ]);
        let mut form = encode_pairs(&[
            ("RoleArn", &self.role),
            ("OIDCProviderArn", &self.identity_provider),
            ("OIDCToken", token),
            ("RoleSessionName", &self.session_name),
            ("DurationSeconds", DURATION_SECONDS),
        ]);
        HttpRequest {
            method: Method::Post,
            url: format!("{}/?{}", self.endpoint.origin(), *query),
            headers: vec![
                ("accept", Zeroizing::new("application/json".to_owned())),
                ("content-type", Zeroizing::new(FORM.to_owned())),
                ("host", Zeroizing::new(self.endpoint.authority())),
            ],
            body: Zeroizing::new(std::mem::take(&mut *form).into_bytes()),
            timeout: self.timeout,
            body_limit: MAX_CREDENTIAL_BYTES,
        }
    }
}

#[async_trait]
impl CredentialProvider for OidcProvider {
    fn name(&self) -> &'static str {
        NAME
    }

    fn identity(&self) -> Option<Arc<str>> {
        Some(Arc::clone(&self.role))
    }

    fn renewable(&self) -> bool {
        true
    }

    async fn obtain(&self) -> Result<Obtained, CredentialError> {
        // The file changes every hour or so; what was read before counts for nothing.
        let token = self.read_token().await?;
        let token = std::str::from_utf8(&token)
            .map(str::trim)
            .ok()
            .filter(|token| !token.is_empty())
            .ok_or_else(|| self.token_error(&"holds no token"))?;
        let mut response = self.ask(token, Skew::default()).await?;
        if complains_of_the_time(&response)
            && let Some(skew) = Skew::measure(&response, self.clock.wall())
        {
            response = self.ask(token, skew).await?;
        }
        if response.status != 200 {
            let code = code(&response);
            let code = code.as_deref().unwrap_or("no code");
            return Err(self.error(&format_args!("refused ({} {code})", response.status)));
        }
        Ok(Obtained {
            credential: parse_sts(&response.body).map_err(|what| self.error(&what))?,
            identity: Arc::clone(&self.role),
            issuer_time: issuer_time(&response),
        })
    }
}

/// What STS calls its refusal, where that is a word.
fn code(response: &HttpResponse) -> Option<String> {
    let said = Said::parse(&response.body)?;
    is_word(&said.code).then_some(said.code)
}

fn complains_of_the_time(response: &HttpResponse) -> bool {
    response.status != 200
        && code(response).is_some_and(|code| is_clock_skew(response.status, &code))
}

fn official_endpoint(environment: &Environment) -> Result<Endpoint, CredentialError> {
    let region = environment
        .given(STS_REGION)
        .map(Region::parse)
        .transpose()
        .map_err(|what| {
            CredentialError::new(format!("credentials by OIDC: {STS_REGION} {what}"))
        })?;
    Ok(Endpoint::sts(region.as_ref(), environment.flag(INNER)))
}

/// Tells the agents of one role apart in the audit trail.
fn session_name() -> String {
    let random = getrandom::u32().unwrap_or_default();
    format!("kms-agent-{random:08x}")
}

#[cfg(test)]
mod tests;
