//! An answer before it is sent.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::wire::body::{Delivery, Paced};

/// A complete answer.
pub(crate) struct ServiceAnswer {
    /// Status code.
    pub(crate) status: StatusCode,
    /// `Code` of an error answer, for the recorded calls.
    pub(crate) code: Option<String>,
    /// The body.
    pub(crate) body: Vec<u8>,
    headers: HeaderMap,
}

impl ServiceAnswer {
    /// Creates a JSON answer. Every answer here can be serialised; a failure would give an empty body.
    pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value).unwrap_or_default();
        Self::new(status, "application/json;charset=utf-8", body)
    }

    /// Creates a plain text answer.
    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::new(status, "text/plain;charset=utf-8", text.into().into_bytes())
    }

    /// Creates an answer of any type.
    pub(crate) fn new(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self {
            status,
            code: None,
            body,
            headers,
        }
    }

    /// Sets the code of the error.
    pub(crate) fn with_code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    /// Sets or replaces a header.
    pub(crate) fn set_header(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.insert(name, value);
    }

    /// Converts it to a hyper response with this `date`.
    pub(crate) fn into_response(self, delivery: Delivery, date: &str) -> Response<Paced> {
        let length = self.body.len();
        let chunked = matches!(delivery, Delivery::Oversize);
        let mut response = Response::new(Paced::new(self.body, delivery));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if !chunked {
            response
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        if let Ok(date) = HeaderValue::from_str(date) {
            response.headers_mut().insert(DATE, date);
        }
        response
    }
}
