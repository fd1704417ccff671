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
use crate::file;
use crate::http::{HttpRequest, HttpSend, Method};
use crate::region::Region;
use crate::sign::encode_pairs;
use crate::wire::{MAX_CREDENTIAL_BYTES, Said, is_word};

pub(super) const NAME: &str = "oidc";

const ROLE: &str = "ALIBABA_CLOUD_ROLE_ARN";
const IDENTITY_PROVIDER: &str = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN";
const TOKEN_FILE: &str = "ALIBABA_CLOUD_OIDC_TOKEN_FILE";
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

    /// The call is not signed: the token is what proves the caller. It goes into the body, so that it stands
    /// in no URL.
    fn request(&self, token: &str) -> HttpRequest {
        let timestamp = self.clock.wall().to_rfc3339().unwrap_or_default();
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
        let response = self
            .http
            .send(self.request(token))
            .await
            .map_err(|error| self.error(&error))?;
        if response.status != 200 {
            let said = Said::parse(&response.body).filter(|said| is_word(&said.code));
            let code = said.as_ref().map_or("no code", |said| &said.code);
            return Err(self.error(&format_args!("refused ({} {code})", response.status)));
        }
        Ok(Obtained {
            credential: parse_sts(&response.body).map_err(|what| self.error(&what))?,
            identity: Arc::clone(&self.role),
            issuer_time: issuer_time(&response),
        })
    }
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
mod tests {
    use std::io::Write;

    use super::*;
    use crate::http::{HttpError, HttpErrorKind};
    use crate::testing::{ManualClock, Outcome, Script, answer, with_header};

    const ARN: &str = "acs:ram::1:role/agent";
    const PROVIDER_ARN: &str = "acs:ram::1:oidc-provider/ack";
    const ANSWER: &str = r#"{"RequestId":"r","Credentials":{"AccessKeyId":"STS.a","AccessKeySecret":"hunter2",
        "SecurityToken":"t0k","Expiration":"2026-01-02T04:04:05Z"}}"#;

    fn token_file(token: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(token.as_bytes()).expect("written");
        file
    }

    fn provider(
        script: &Arc<Script>,
        file: &Path,
        more: &[(&str, &str)],
    ) -> Result<OidcProvider, CredentialError> {
        let environment = [
            (ROLE, ARN),
            (IDENTITY_PROVIDER, PROVIDER_ARN),
            (TOKEN_FILE, file.to_str().expect("a path")),
        ]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
        assert!(is_configured(&environment));
        let sts = Sts {
            http: Arc::clone(script) as _,
            endpoint: None,
            timeout: Duration::from_secs(5),
        };
        OidcProvider::parse(sts, &environment, ManualClock::new())
    }

    async fn refused(outcome: Outcome) -> String {
        let file = token_file("ey.JhbGci");
        let script = Script::new().expect(Method::Post, "https://sts.aliyuncs.com/", outcome);
        let provider = provider(&script, file.path(), &[]).expect("configured");
        provider.obtain().await.expect_err("refused").to_string()
    }

    #[tokio::test]
    async fn the_token_goes_into_the_body_and_is_read_anew_each_time() {
        let mut file = token_file(" ey.J/1\n");
        let url = "https://sts.aliyuncs.com/?Action=AssumeRoleWithOIDC&Format=JSON\
             &Timestamp=2026-01-02T03%3A04%3A05Z&Version=2015-04-01";
        let dated = with_header(answer(200, ANSWER), "date", "Fri, 02 Jan 2026 03:04:05 GMT");
        let script = Script::new().expect(Method::Post, url, dated).expect(
            Method::Post,
            url,
            answer(200, ANSWER),
        );
        let provider = provider(&script, file.path(), &[(SESSION_NAME, "me")]).expect("configured");
        assert_eq!(provider.identity().as_deref(), Some(ARN));
        let obtained = provider.obtain().await.expect("credentials");
        assert_eq!(obtained.credential.access_key_secret(), "hunter2");
        assert_eq!(obtained.issuer_time, Some(crate::testing::WALL));
        file.write_all(b"2").expect("written");
        provider.obtain().await.expect("credentials");
        assert_eq!(
            script.sent_body(0),
            "DurationSeconds=3600&OIDCProviderArn=acs%3Aram%3A%3A1%3Aoidc-provider%2Fack&OIDCToken=ey.J%2F1\
             &RoleArn=acs%3Aram%3A%3A1%3Arole%2Fagent&RoleSessionName=me"
        );
        assert!(script.sent_body(1).contains("OIDCToken=ey.J%2F1%0A2&"));
        assert_eq!(script.sent_header(0, "content-type").as_deref(), Some(FORM));
    }

    #[tokio::test]
    async fn the_environment_chooses_the_gateway_of_sts() {
        let file = token_file("t0k");
        for (more, host) in [
            (vec![(STS_REGION, "cn-a")], "sts.cn-a.aliyuncs.com"),
            (
                vec![(STS_REGION, "cn-a"), (INNER, "True")],
                "sts-vpc.cn-a.aliyuncs.com",
            ),
            (vec![(INNER, "true")], "sts.aliyuncs.com"),
        ] {
            let url = format!("https://{host}/?");
            let script = Script::new().expect(Method::Post, &url, answer(200, ANSWER));
            let provider = provider(&script, file.path(), &more).expect("configured");
            assert!(provider.obtain().await.is_ok());
        }
        let bad = provider(&Script::new(), file.path(), &[(STS_REGION, "a.b/")]);
        assert!(bad.is_err());
    }

    #[tokio::test]
    async fn a_failure_says_who_refused_and_why_but_holds_no_token_and_no_body() {
        let body =
            r#"{"Code":"AuthenticationFail.OIDCToken.Expired","Message":"ey.JhbGci is old"}"#;
        for outcome in [
            answer(400, body),
            answer(200, "{\"Credentials\":{\"AccessKeySecret\":\"ey.JhbGci\"}}"),
            answer(500, "ey.JhbGci"),
            Err(HttpError::new(HttpErrorKind::Connect, "refused")),
        ] {
            let text = refused(outcome).await;
            assert!(
                text.contains(ARN) && text.contains("sts.aliyuncs.com"),
                "{text}"
            );
            assert!(!text.contains("ey.JhbGci"), "{text}");
        }
        let text = refused(answer(400, body)).await;
        assert!(
            text.contains("400 AuthenticationFail.OIDCToken.Expired"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_token_file_that_is_missing_or_empty_is_named() {
        let file = token_file(" \n");
        for path in [file.path(), Path::new("/no/such/token")] {
            let provider = provider(&Script::new(), path, &[]).expect("configured");
            let text = provider.obtain().await.expect_err("no token").to_string();
            assert!(text.contains(path.to_str().expect("a path")), "{text}");
        }
    }

    #[test]
    fn all_three_variables_are_needed() {
        let environment: Environment = [(ROLE, ARN), (TOKEN_FILE, "/t")].into_iter().collect();
        assert!(!is_configured(&environment));
        let sts = Sts {
            http: Script::new() as _,
            endpoint: None,
            timeout: Duration::from_secs(5),
        };
        let error =
            OidcProvider::parse(sts, &environment, ManualClock::new()).expect_err("not all");
        assert!(error.to_string().contains(IDENTITY_PROVIDER));
        let name = session_name();
        assert!(name.starts_with("kms-agent-") && name.len() == 18);
    }
}
