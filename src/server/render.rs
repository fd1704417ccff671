//! From answers and errors to responses, in the operator's choice of format.

mod aws;
mod kms;
mod parsed;
mod vault;

use std::io;

use bytes::Bytes;
use http::header::{AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::Full;
use kms_agent_cache::Answer;
use kms_agent_core::SecretId;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::cache_status;
use crate::config::ResponseType;
use crate::error::ApiError;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// A response whose body lies ready as a whole, as all of the agent's are.
pub(crate) type Answered = Response<Full<Bytes>>;

/// What a format may say besides the answer itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// The id as the reader gave it.
    pub(crate) id: &'a SecretId,
    /// The agent's region, once known.
    pub(crate) region: Option<&'a str>,
}

/// The response that carries a secret. Its headers go into `headers`, of which only the memory is used: that of the
/// request's is large enough, and the connection has the next request's put there in turn.
pub(crate) fn answer(
    format: ResponseType,
    question: Question<'_>,
    answer: Answer,
    headers: HeaderMap,
) -> Result<Answered, ApiError> {
    let value = answer.secret.answer;
    let body = match format {
        ResponseType::Kms => kms::body(value),
        ResponseType::Aws => aws::body(&value, question)?,
        ResponseType::Vault => vault::body(&value)?,
    };
    let mut response = json_with(headers, body);
    let headers = response.headers_mut();
    headers.insert(AGE, HeaderValue::from(answer.age.as_secs()));
    if let Some(status) = cache_status::value(&answer.status) {
        headers.insert(CACHE_STATUS, status);
    }
    Ok(response)
}

/// The response that carries an error.
pub(crate) fn error(format: ResponseType, error: &ApiError) -> Answered {
    let mut response = json(match format {
        ResponseType::Kms => kms::error(error),
        ResponseType::Aws => aws::error(error),
        ResponseType::Vault => vault::error(error),
    });
    *response.status_mut() = error.status;
    let headers = response.headers_mut();
    if let Some(wait) = error.retry_after {
        // Whole seconds, and never zero: a client that comes back at once gains nothing.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    if let Some(allow) = error.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

/// A JSON response as every answer of the agent is: for nobody to store or to guess at.
pub(crate) fn json(body: Bytes) -> Answered {
    json_with(HeaderMap::with_capacity(8), body)
}

fn json_with(mut headers: HeaderMap, body: Bytes) -> Answered {
    headers.clear();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    let mut response = Response::new(Full::new(body));
    *response.headers_mut() = headers;
    response
}

/// `document` as JSON, in one buffer of exactly its size that is wiped once it is sent: a buffer that grows
/// would leave copies behind.
pub(crate) fn encode(document: &impl Serialize) -> Bytes {
    let mut size = ByteCount(0);
    // Strings, numbers and raw JSON always serialize, and counting and memory take every byte.
    let _ = serde_json::to_writer(&mut size, document);
    let mut buffer = Zeroizing::new(Vec::with_capacity(size.0));
    let _ = serde_json::to_writer(&mut *buffer, document);
    Bytes::from_owner(WipedBytes(buffer))
}

struct WipedBytes(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for WipedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

struct ByteCount(usize);

impl io::Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
