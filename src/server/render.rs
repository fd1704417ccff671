//! From answers and errors to responses.

mod kms;

use axum::body::Body;
use bytes::Bytes;
use http::header::{AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Response};
use kms_agent_core::{Answer, SecretValue};

use crate::cache_status;
use crate::error::ApiError;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// The response that carries a secret.
pub(crate) fn answer(answer: Answer) -> Response<Body> {
    let status = cache_status::text(&answer.status);
    let age = answer.age.as_secs();
    let mut response = json(kms::body(answer));
    let headers = response.headers_mut();
    headers.insert(AGE, HeaderValue::from(age));
    if let Ok(status) = HeaderValue::try_from(status) {
        headers.insert(CACHE_STATUS, status);
    }
    response
}

/// The response that carries an error.
pub(crate) fn error(error: &ApiError) -> Response<Body> {
    let mut response = json(kms::error(error));
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
pub(crate) fn json(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}

/// Lends a value to the connection without copying it; when the bytes are sent the loan ends.
fn lend(value: SecretValue) -> Bytes {
    struct Lent(SecretValue);
    impl AsRef<[u8]> for Lent {
        fn as_ref(&self) -> &[u8] {
            self.0.expose()
        }
    }
    Bytes::from_owner(Lent(value))
}
