//! An answer before it is put on the wire.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::wire::body::{Delivery, Paced};

/// A complete answer.
pub(crate) struct ServiceAnswer {
    /// The status line's code.
    pub(crate) status: StatusCode,
    /// The `Code` of an error answer, for the list of calls.
    pub(crate) code: Option<String>,
    /// The body.
    pub(crate) body: Vec<u8>,
    headers: HeaderMap,
}

impl ServiceAnswer {
    /// A JSON answer. What is answered here always serialises, so a failure becomes an empty body.
    pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value).unwrap_or_default();
        Self::new(status, "application/json;charset=utf-8", body)
    }

    /// A plain text answer.
    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::new(status, "text/plain;charset=utf-8", text.into().into_bytes())
    }

    /// An answer of any type.
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

    /// Names the error.
    pub(crate) fn with_code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    /// Sets a header, in place of one of that name.
    pub(crate) fn set_header(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.insert(name, value);
    }

    /// The form hyper sends, dated `date`.
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
