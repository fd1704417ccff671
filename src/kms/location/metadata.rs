//! The metadata service of an ECS instance.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::gateway::wire::MAX_CREDENTIAL_BYTES;
use crate::http::{HttpError, HttpRequest, HttpResponse, HttpSend, Method};
use crate::location::endpoint::Endpoint;

/// Limit of connecting to it.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A second to connect and a second to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

const TOKEN_SECONDS: &str = "21600";

/// The way to the metadata service: with a session token (`IMDSv2`), and without one where that fails and is
/// not forbidden.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    http: Arc<dyn HttpSend>,
    endpoint: Endpoint,
    v1_allowed: bool,
}

/// Failure of a request to the service.
#[derive(Debug)]
pub(crate) enum MetadataError {
    /// No answer.
    Http(HttpError),
    /// An answer of another status than 200.
    Status(u16),
    /// No session token, and going on without one is forbidden. The text says what came instead.
    NoToken(String),
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(error) => error.fmt(f),
            Self::Status(status) => write!(f, "status {status}"),
            Self::NoToken(what) => write!(
                f,
                "it gives no session token ({what}), and ALIBABA_CLOUD_IMDSV1_DISABLED forbids to do without one; unset that, or switch the instance to IMDSv2"
            ),
        }
    }
}

/// One conversation with the service.
pub(crate) struct Session<'a> {
    metadata: &'a Metadata,
    token: Option<Zeroizing<String>>,
}

impl Metadata {
    pub(crate) fn new(http: Arc<dyn HttpSend>, endpoint: Endpoint, v1_allowed: bool) -> Self {
        Self {
            http,
            endpoint,
            v1_allowed,
        }
    }

    /// For messages.
    pub(crate) fn authority(&self) -> String {
        self.endpoint.authority()
    }

    /// Asks for a session token.
    pub(crate) async fn open(&self) -> Result<Session<'_>, MetadataError> {
        let mut request = self.get("/latest/api/token");
        request.method = Method::Put;
        request.headers.push((
            "x-aliyun-ecs-metadata-token-ttl-seconds",
            Zeroizing::new(TOKEN_SECONDS.to_owned()),
        ));
        let outcome = self.send(request).await.map(|response| text(&response));
        let token = match outcome {
            Ok(Some(token)) => Some(token),
            Ok(None) | Err(_) if self.v1_allowed => None,
            // No server is reachable: the network must be fixed.
            Err(MetadataError::Http(error)) => return Err(MetadataError::Http(error)),
            Ok(None) => return Err(MetadataError::NoToken("an empty answer".to_owned())),
            Err(error) => return Err(MetadataError::NoToken(error.to_string())),
        };
        Ok(Session {
            metadata: self,
            token,
        })
    }

    fn get(&self, path: &str) -> HttpRequest {
        let url = format!("{}{path}", self.endpoint.origin());
        HttpRequest::get(url, TIMEOUT, MAX_CREDENTIAL_BYTES)
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, MetadataError> {
        match self.http.send(request).await {
            Ok(response) if response.status == 200 => Ok(response),
            Ok(response) => Err(MetadataError::Status(response.status)),
            Err(error) => Err(MetadataError::Http(error)),
        }
    }
}

impl Session<'_> {
    /// Reads `path`, once more without the token where it is not accepted.
    pub(crate) async fn get(&self, path: &str) -> Result<HttpResponse, MetadataError> {
        let plain = || self.metadata.send(self.metadata.get(path));
        let Some(token) = &self.token else {
            return plain().await;
        };
        let mut request = self.metadata.get(path);
        request
            .headers
            .push(("x-aliyun-ecs-metadata-token", token.clone()));
        match self.metadata.send(request).await {
            Err(_) if self.metadata.v1_allowed => plain().await,
            answer => answer,
        }
    }
}

/// The trimmed text of an answer, unless there is none.
pub(crate) fn text(response: &HttpResponse) -> Option<Zeroizing<String>> {
    let text = std::str::from_utf8(&response.body).ok()?.trim();
    (!text.is_empty()).then(|| Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Script, answer};

    const TOKEN_URL: &str = "http://100.100.100.200/latest/api/token";
    const REGION_URL: &str = "http://100.100.100.200/latest/meta-data/region-id";

    async fn region(script: &Arc<Script>, v1_allowed: bool) -> Result<String, String> {
        let http: Arc<dyn HttpSend> = Arc::clone(script) as _;
        let metadata = Metadata::new(http, Endpoint::metadata(), v1_allowed);
        let session = metadata.open().await.map_err(|error| error.to_string())?;
        let response = session.get("/latest/meta-data/region-id").await;
        response
            .map_err(|error| error.to_string())
            .map(|response| text(&response).map_or_else(String::new, |text| text.to_string()))
    }

    #[tokio::test]
    async fn the_token_is_fetched_first_and_sent_along() {
        let script = Script::new()
            .expect(Method::Put, TOKEN_URL, answer(200, "t0k"))
            .expect(Method::Get, REGION_URL, answer(200, " cn-hangzhou\n"));
        assert_eq!(region(&script, false).await.as_deref(), Ok("cn-hangzhou"));
        assert_eq!(
            script.sent_header(0, "x-aliyun-ecs-metadata-token-ttl-seconds"),
            Some("21600".to_owned())
        );
        assert_eq!(
            script.sent_header(1, "x-aliyun-ecs-metadata-token"),
            Some("t0k".to_owned())
        );
    }

    #[tokio::test]
    async fn without_a_token_the_old_way_is_taken_unless_forbidden() {
        let script = Script::new()
            .expect(Method::Put, TOKEN_URL, answer(404, ""))
            .expect(Method::Get, REGION_URL, answer(200, "cn-hangzhou"));
        assert!(region(&script, true).await.is_ok());
        assert_eq!(script.sent_header(1, "x-aliyun-ecs-metadata-token"), None);

        for (came, said) in [(answer(404, ""), "status 404"), (answer(200, ""), "empty")] {
            let script = Script::new().expect(Method::Put, TOKEN_URL, came);
            let text = region(&script, false).await.expect_err("no token");
            assert!(
                text.contains(said) && text.contains("ALIBABA_CLOUD_IMDSV1_DISABLED"),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_token_that_is_not_accepted_is_left_out_once_unless_forbidden() {
        let script = Script::new()
            .expect(Method::Put, TOKEN_URL, answer(200, "t0k"))
            .expect(Method::Get, REGION_URL, answer(403, ""))
            .expect(Method::Get, REGION_URL, answer(200, "cn-hangzhou"));
        assert!(region(&script, true).await.is_ok());
        assert_eq!(script.sent_header(2, "x-aliyun-ecs-metadata-token"), None);

        let script = Script::new()
            .expect(Method::Put, TOKEN_URL, answer(200, "t0k"))
            .expect(Method::Get, REGION_URL, answer(403, ""));
        assert_eq!(region(&script, false).await, Err("status 403".to_owned()));
    }
}
