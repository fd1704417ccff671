//! A request, read to its end and parsed.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use crate::wire::body::Cut;
use crate::wire::refusal::ServiceRefusal;

/// Largest body. Orders to put large secrets come near it.
const BODY_LIMIT: usize = 8 * 1024 * 1024;

/// Decoded parameters, in their order.
pub(crate) type Parameters = Vec<(String, String)>;

/// A request.
pub(crate) struct Inbound {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Parameters,
    pub(crate) body: Bytes,
    pub(crate) headers: HeaderMap,
    form: Parameters,
}

impl Inbound {
    /// Reads a request to its end. An incomplete or too long body ends the connection.
    pub(crate) async fn read(
        request: Request<Incoming>,
    ) -> Result<Result<Self, ServiceRefusal>, Cut> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, BODY_LIMIT).collect().await;
        let body = body.map_err(|_| Cut)?.to_bytes();
        let query = head.uri.query().unwrap_or_default();
        Ok(Self::parse(
            head.method,
            head.uri.path(),
            query,
            head.headers,
            body,
        ))
    }

    /// Parses a request.
    pub(crate) fn parse(
        method: Method,
        path: &str,
        query: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Self, ServiceRefusal> {
        let is_form = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
        let form = match std::str::from_utf8(&body) {
            Ok(text) if is_form => parameters(text)?,
            Err(_) if is_form => return Err(not_utf8()),
            _ => Parameters::new(),
        };
        Ok(Self {
            method,
            path: path.to_owned(),
            query: parameters(query)?,
            body,
            headers,
            form,
        })
    }

    /// Returns a parameter of the query, else of the form body.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .chain(&self.form)
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns a parameter that is present and not empty.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.parameter(name).filter(|value| !value.is_empty())
    }

    /// Returns a header that is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    }
}

/// Decodes `a=b&c=d`. A plus is a space, as in a form.
fn parameters(text: &str) -> Result<Parameters, ServiceRefusal> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(key)?, decode(value)?))
        })
        .collect()
}

fn decode(text: &str) -> Result<String, ServiceRefusal> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| not_utf8())
}

fn not_utf8() -> ServiceRefusal {
    ServiceRefusal::gateway(
        400,
        "InvalidParameter.Format",
        "A parameter is not valid UTF-8.",
    )
}
