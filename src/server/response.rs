//! Responses whose body is in memory, with the headers that every one of them has.

pub(crate) mod cache_status;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::Full;
use kms_agent_cache::CacheStatus;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::error::ApiError;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// A response with a complete body.
pub(crate) type FullResponse = Response<Full<Bytes>>;

/// Returns the response that carries a secret. Of `headers` only the memory is used.
pub(crate) fn secret(
    headers: HeaderMap,
    (body, kind): (Bytes, HeaderValue),
    age: Duration,
    status: &CacheStatus,
) -> FullResponse {
    let mut response = typed(headers, body, kind);
    let headers = response.headers_mut();
    headers.insert(AGE, HeaderValue::from(age.as_secs()));
    if let Some(status) = cache_status::value(status) {
        headers.insert(CACHE_STATUS, status);
    }
    response
}

/// Returns the response that carries an error, with `body` as its text.
pub(crate) fn error(body: Bytes, error: &ApiError) -> FullResponse {
    let mut response = json(body);
    *response.status_mut() = error.status;
    let headers = response.headers_mut();
    if let Some(wait) = error.retry_after {
        // Whole seconds and at least one: an immediate retry would fail too.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    if let Some(allow) = error.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

/// Returns a JSON response that no client may store or sniff.
pub(crate) fn json(body: Bytes) -> FullResponse {
    typed(HeaderMap::with_capacity(8), body, JSON)
}

fn typed(mut headers: HeaderMap, body: Bytes, kind: HeaderValue) -> FullResponse {
    headers.clear();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    let mut response = Response::new(Full::new(body));
    *response.headers_mut() = headers;
    response
}

/// Serializes `document` into one buffer of exactly its size, which is wiped after it is sent. A buffer that grows would
/// leave copies behind.
pub(crate) fn encode(document: &impl Serialize) -> Bytes {
    wiped(encode_wiped(document))
}

/// Serializes `document` as [`encode`] does.
pub(crate) fn encode_wiped(document: &(impl Serialize + ?Sized)) -> Zeroizing<Vec<u8>> {
    let mut size = ByteCount(0);
    // Strings, numbers and raw JSON always serialize, and counting and memory take every byte.
    let _ = serde_json::to_writer(&mut size, document);
    let mut buffer = Zeroizing::new(Vec::with_capacity(size.0));
    let _ = serde_json::to_writer(&mut *buffer, document);
    buffer
}

/// Returns a body of `owner`, which is wiped after it is sent.
pub(crate) fn wiped<T>(owner: Zeroizing<T>) -> Bytes
where
    T: AsRef<[u8]> + zeroize::Zeroize + Send + 'static,
{
    struct Wiped<T: zeroize::Zeroize>(Zeroizing<T>);
    impl<T: AsRef<[u8]> + zeroize::Zeroize> AsRef<[u8]> for Wiped<T> {
        fn as_ref(&self) -> &[u8] {
            (*self.0).as_ref()
        }
    }
    Bytes::from_owner(Wiped(owner))
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
