//! Responses to bytes that are not a request.

use std::io::Write;

use http::StatusCode;
use http_body_util::{BodyExt, Collected};

use crate::error::{ApiError, Reject};
use crate::guard::{HEADERS_TOO_LARGE, URI_TOO_LONG};
use crate::response::FullResponse;

/// Reason why the received bytes are not a request.
#[derive(Debug)]
pub(super) enum ParseFailure {
    /// The parser refused them; only a status is known.
    Parser(StatusCode),
    /// The stream refused them.
    Own(ApiError),
}

impl ParseFailure {
    /// Returns the error to answer with; `reason` is the text of the parser.
    pub(super) fn into_error(self, reason: &str) -> ApiError {
        match self {
            Self::Parser(status) => error(status, reason),
            Self::Own(error) => error,
        }
    }
}

/// Returns the error for the status that the parser chose; `reason` is its own short text.
fn error(status: StatusCode, reason: &str) -> ApiError {
    match status {
        StatusCode::URI_TOO_LONG => Reject::UriTooLong.because(URI_TOO_LONG),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            Reject::HeadersTooLarge.because(HEADERS_TOO_LARGE)
        }
        _ => Reject::InvalidRequest.because(format!(
            "This is not an HTTP/1.1 request ({reason}). Send a path that begins with /, percent-encode every byte of a secret id that is not a letter, a digit or one of - . _ ~ / (a space is %20), and send each header on a line of its own."
        )),
    }
}

/// Returns the bytes of the last response of a connection, head and body.
pub(super) async fn response_bytes(response: FullResponse) -> Vec<u8> {
    let (parts, body) = response.into_parts();
    // The body is in memory, so collecting it neither fails nor waits.
    let body = body
        .collect()
        .await
        .map(Collected::to_bytes)
        .unwrap_or_default();
    let mut bytes = Vec::with_capacity(512 + body.len());
    // Writing to memory cannot fail.
    let _ = write!(bytes, "HTTP/1.1 {}\r\n", parts.status);
    for (name, value) in &parts.headers {
        let _ = write!(bytes, "{name}: ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    if parts.status != StatusCode::NO_CONTENT {
        let _ = write!(bytes, "content-length: {}\r\n", body.len());
    }
    bytes.extend_from_slice(b"connection: close\r\n\r\n");
    bytes.extend_from_slice(&body);
    bytes
}
