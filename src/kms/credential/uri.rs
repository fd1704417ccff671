use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::chain::before_profiles;
use super::provider::{CredentialError, CredentialProvider, Obtained};
use super::response::{issuer_time, parse_flat};
use crate::gateway::wire::MAX_CREDENTIAL_BYTES;
use crate::host::Environment;
use crate::host::digest::fingerprint;
use crate::http::{HttpRequest, HttpSend};
use crate::location::endpoint::Endpoint;
use crate::settings::ProviderChoice;

pub(super) const NAME: &str = "uri";

const VARIABLE: &str = "ALIBABA_CLOUD_CREDENTIALS_URI";
const TIMEOUT: Duration = Duration::from_secs(5);

/// A service of the operator's that hands out credentials.
pub(super) struct UriProvider {
    http: Arc<dyn HttpSend>,
    /// Its query may hold a secret.
    uri: Zeroizing<String>,
    identity: Arc<str>,
}

pub(super) fn is_configured(environment: &Environment) -> bool {
    environment.given(VARIABLE).is_some()
}

/// Whether the URI asks for TLS.
pub(crate) fn is_secure(environment: &Environment) -> bool {
    environment
        .given(VARIABLE)
        .is_some_and(|uri| uri.to_ascii_lowercase().starts_with("https://"))
}

/// Whether the agent may go by a URI that hands out credentials in plain HTTP, and not on this machine. The metadata
/// service is as near.
pub(crate) fn is_exposed(choice: ProviderChoice, environment: &Environment) -> bool {
    let may_be_asked = matches!(
        before_profiles(choice, environment),
        ProviderChoice::Uri | ProviderChoice::Default
    );
    let uri = environment.given(VARIABLE).unwrap_or_default();
    let Some((scheme, rest)) = uri.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let near = Endpoint::parse_metadata(host).is_ok_and(|endpoint| !endpoint.is_secure());
    may_be_asked && scheme.eq_ignore_ascii_case("http") && !near
}

impl UriProvider {
    pub(super) fn parse(
        http: Arc<dyn HttpSend>,
        environment: &Environment,
    ) -> Result<Self, CredentialError> {
        let uri = environment.given(VARIABLE).ok_or_else(|| {
            CredentialError::new(format!("credentials from a URI: set {VARIABLE}"))
        })?;
        let lower = uri.to_ascii_lowercase();
        if !(lower.starts_with("http://") || lower.starts_with("https://")) {
            return Err(CredentialError::new(format!(
                "credentials from a URI: {VARIABLE} must hold an http:// or https:// URI"
            )));
        }
        Ok(Self {
            http,
            uri: Zeroizing::new(uri.to_owned()),
            identity: identity(uri).into(),
        })
    }
}

fn failed(what: &dyn fmt::Display) -> CredentialError {
    CredentialError::new(format!(
        "credentials from the URI in {VARIABLE}: {what}; check the URI and the service behind it"
    ))
}

/// The URI itself, where it can hold no secret; else what can be shown of it, and a fingerprint of the whole.
fn identity(uri: &str) -> String {
    let shown = uri.split(['?', '#']).next().unwrap_or_default();
    if shown == uri && !uri.contains('@') {
        return uri.to_owned();
    }
    let shown = if shown.contains('@') { NAME } else { shown };
    format!("{shown}#{}", fingerprint(uri.as_bytes()))
}

impl fmt::Debug for UriProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UriProvider").field(&self.identity).finish()
    }
}

#[async_trait]
impl CredentialProvider for UriProvider {
    fn name(&self) -> &'static str {
        NAME
    }

    fn identity(&self) -> Option<Arc<str>> {
        Some(Arc::clone(&self.identity))
    }

    fn renewable(&self) -> bool {
        true
    }

    async fn obtain(&self) -> Result<Obtained, CredentialError> {
        let request = HttpRequest::get(self.uri.to_string(), TIMEOUT, MAX_CREDENTIAL_BYTES);
        let response = self
            .http
            .send(request)
            .await
            .map_err(|error| failed(&error))?;
        if response.status != 200 {
            return Err(failed(&format_args!("status {}", response.status)));
        }
        Ok(Obtained {
            credential: parse_flat(&response.body).map_err(|what| failed(&what))?,
            identity: Arc::clone(&self.identity),
            issuer_time: issuer_time(&response),
        })
    }

    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Method;
    use crate::testing::{Script, answer};

    fn provider(script: &Arc<Script>, uri: &str) -> Result<UriProvider, CredentialError> {
        let http: Arc<dyn HttpSend> = Arc::clone(script) as _;
        UriProvider::parse(http, &[(VARIABLE, uri)].into_iter().collect())
    }

    #[tokio::test]
    async fn credentials_are_fetched_from_the_uri() {
        let uri = "http://127.0.0.1:8000/sts?key=hunter2";
        let script = Script::new().expect(
            Method::Get,
            uri,
            answer(
                200,
                r#"{"AccessKeyId":"STS.a","AccessKeySecret":"s","SecurityToken":"t",
                    "Expiration":"2026-01-02T04:04:05Z"}"#,
            ),
        );
        let provider = provider(&script, uri).expect("a URI");
        let obtained = provider.obtain().await.expect("credentials");
        assert_eq!(obtained.credential.access_key_id(), "STS.a");
        assert!(!format!("{provider:?} {obtained:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn a_failure_quotes_neither_the_uri_nor_the_answer() {
        let uri = "http://127.0.0.1:8000/sts?key=hunter2";
        let script = Script::new().expect(Method::Get, uri, answer(500, "tr0uble"));
        let error = provider(&script, uri).expect("a URI").obtain().await;
        let text = error.expect_err("a failure").to_string();
        assert!(text.contains("status 500"));
        assert!(!text.contains("hunter2") && !text.contains("tr0uble"));
        assert!(provider(&Script::new(), "file:///etc/passwd").is_err());
    }

    #[test]
    fn the_identity_is_the_uri_less_what_may_be_secret() {
        assert_eq!(identity("http://10.0.0.1/sts"), "http://10.0.0.1/sts");
        let (one, other) = (identity("http://h/s?key=1"), identity("http://h/s?key=2"));
        assert!(one.starts_with("http://h/s#") && one != other);
        assert!(!identity("http://user:pass@h/s").contains("pass"));
    }
}
