//! The security token service, which gives credentials for a role.

use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::Clock;
use zeroize::Zeroizing;

use super::provider::Obtained;
use super::response::{issuer_time, parse_sts};
use super::role::Role;
use crate::gateway::Credential;
use crate::gateway::error::is_clock_skew;
use crate::gateway::sign::{CallStamp, CallToSign, encode_pairs, nonce, sign};
use crate::gateway::skew::{ServerClock, server_date};
use crate::gateway::wire::{ErrorBody, MAX_CREDENTIAL_BYTES, is_word};
use crate::host::Environment;
use crate::http::{HttpRequest, HttpResponse, HttpSend, Method};
use crate::location::endpoint::Endpoint;
use crate::location::region::Region;

const REGION: &str = "ALIBABA_CLOUD_STS_REGION";
const INNER: &str = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED";

const ASSUME_ROLE: &str = "AssumeRole";
const ASSUME_ROLE_WITH_OIDC: &str = "AssumeRoleWithOIDC";
const VERSION: &str = "2015-04-01";
const FORM: &str = "application/x-www-form-urlencoded";

/// The way to STS.
#[derive(Clone, Debug)]
pub(crate) struct Sts {
    pub(crate) http: Arc<dyn HttpSend>,
    /// As the operator configured it, which counts whatever else is said.
    pub(crate) endpoint: Option<Endpoint>,
    /// Limit of one answer.
    pub(crate) timeout: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    /// The time that requests carry.
    pub(crate) server_clock: Arc<ServerClock>,
}

/// One gateway of it.
#[derive(Debug)]
pub(super) struct Gateway {
    sts: Sts,
    endpoint: Endpoint,
}

impl Sts {
    /// The gateway that a profile names by `region` and `inner`, else the environment, else the public one.
    pub(super) fn gateway(
        &self,
        region: Option<&str>,
        inner: Option<bool>,
        environment: &Environment,
    ) -> Result<Gateway, String> {
        let (named_by, region) = match region {
            Some(region) => ("sts_region", Some(region)),
            None => (REGION, environment.given(REGION)),
        };
        let region = region
            .map(Region::parse)
            .transpose()
            .map_err(|what| format!("{named_by} {what}"))?;
        let inner = inner.unwrap_or_else(|| environment.flag(INNER));
        let endpoint = self.endpoint.clone();
        Ok(Gateway {
            sts: self.clone(),
            endpoint: endpoint.unwrap_or_else(|| Endpoint::sts(region.as_ref(), inner)),
        })
    }
}

impl Gateway {
    /// Assumes `role` as who `caller` is.
    pub(super) async fn assume_role(
        &self,
        role: &Role,
        caller: &Credential,
    ) -> Result<Obtained, String> {
        let form = encode_pairs(&role.parameters());
        self.exchange(ASSUME_ROLE, role, || {
            let date = self.date()?;
            let authority = self.endpoint.authority();
            let signed = sign(
                CallToSign {
                    host: &authority,
                    action: ASSUME_ROLE,
                    version: VERSION,
                    query: &[],
                    content_type: Some(FORM),
                    body: form.as_bytes(),
                },
                caller,
                CallStamp {
                    date: &date,
                    nonce: &nonce()?,
                },
            );
            Some(self.request("", signed.headers, &form))
        })
        .await
    }

    /// Assumes `role` with a token of the OIDC provider `provider_arn`. The call is not signed: the token is
    /// what proves the caller. It goes into the body, so that it stands in no URL.
    pub(super) async fn assume_role_with_oidc(
        &self,
        role: &Role,
        provider_arn: &str,
        token: &str,
    ) -> Result<Obtained, String> {
        let mut parameters = role.parameters();
        parameters.extend([("OIDCProviderArn", provider_arn), ("OIDCToken", token)]);
        let form = encode_pairs(&parameters);
        self.exchange(ASSUME_ROLE_WITH_OIDC, role, || {
            let timestamp = self.date()?;
            let query = encode_pairs(&[
                ("Action", ASSUME_ROLE_WITH_OIDC),
                ("Version", VERSION),
                ("Format", "JSON"),
                ("Timestamp", &timestamp),
            ]);
            let headers = vec![
                ("content-type", Zeroizing::new(FORM.to_owned())),
                ("host", Zeroizing::new(self.endpoint.authority())),
            ];
            Some(self.request(&format!("?{}", *query), headers, &form))
        })
        .await
    }

    /// The time that a request carries now.
    fn date(&self) -> Option<String> {
        self.sts.server_clock.date(&*self.sts.clock)
    }

    fn request(
        &self,
        query: &str,
        mut headers: Vec<(&'static str, Zeroizing<String>)>,
        form: &str,
    ) -> HttpRequest {
        headers.push(("accept", Zeroizing::new("application/json".to_owned())));
        HttpRequest {
            method: Method::Post,
            url: format!("{}/{query}", self.endpoint.origin()),
            headers,
            body: Zeroizing::new(form.as_bytes().to_vec()),
            timeout: self.sts.timeout,
            body_limit: MAX_CREDENTIAL_BYTES,
        }
    }

    /// Sends what `request` makes, once more by the clock of STS where that differs, and reads the answer.
    async fn exchange(
        &self,
        action: &str,
        role: &Role,
        request: impl Fn() -> Option<HttpRequest> + Send + Sync,
    ) -> Result<Obtained, String> {
        let failed = |what: &dyn std::fmt::Display| {
            format!(
                "{action} for {} at {}: {what}; check the role, its trust policy and the connection to STS",
                role.arn.escape_debug(),
                self.endpoint.authority()
            )
        };
        let send = async || {
            let request = request()
                .ok_or_else(|| failed(&"the machine has no usable time or no randomness"))?;
            let response = self.sts.http.send(request).await;
            response.map_err(|error| failed(&error))
        };
        let (clock, server_clock) = (&*self.sts.clock, &self.sts.server_clock);
        let mut response = send().await?;
        if complains_of_the_time(&response) && server_clock.learn(server_date(&response), clock) {
            response = send().await?;
        }
        if response.status == 200 {
            server_clock.follow(server_date(&response), clock);
        }
        if response.status != 200 {
            let code = code(&response);
            let code = code.as_deref().unwrap_or("no code");
            return Err(failed(&format_args!(
                "refused ({} {code})",
                response.status
            )));
        }
        Ok(Obtained {
            credential: parse_sts(&response.body).map_err(|what| failed(&what))?,
            identity: Arc::clone(&role.arn),
            issuer_time: issuer_time(&response),
        })
    }
}

/// Code of the refusal, if it is a single word.
fn code(response: &HttpResponse) -> Option<String> {
    let said = ErrorBody::parse(&response.body)?;
    is_word(&said.code).then_some(said.code)
}

fn complains_of_the_time(response: &HttpResponse) -> bool {
    response.status != 200
        && code(response).is_some_and(|code| is_clock_skew(response.status, &code))
}
