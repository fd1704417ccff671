//! First request head of a connection, which may be long only when it carries a valid token.
//!
//! Before that the caller is unknown, and the agent keeps only a little memory for it, since there may be many such
//! connections.

use crate::app::App;
use crate::caller::Peer;
use crate::config::MAX_TOKEN_HEADERS;
use crate::error::{ApiError, Reject};
use crate::guard::URI_TOO_LONG;

/// Bytes that a request head may have before its valid token.
const MAX_UNTRUSTED_BYTES: usize = 16 * 1024;

/// Bytes that are kept of a line: more than the header of the longest token.
const MAX_LINE: usize = 2 * 1024;

/// State of the first head.
#[derive(Debug)]
pub(super) struct FirstHead<'a> {
    app: &'a App,
    peer: &'a Peer,
    bytes: usize,
    /// Beginning of the line that is not complete yet.
    line: Vec<u8>,
    has_request_line: bool,
    /// Number of lines that look like the token's.
    candidates: usize,
    is_trusted: bool,
}

impl<'a> FirstHead<'a> {
    pub(super) fn new(app: &'a App, peer: &'a Peer) -> Self {
        Self {
            app,
            peer,
            bytes: 0,
            line: Vec::new(),
            has_request_line: false,
            candidates: 0,
            // A caller that is known by its credentials has shown as much as a token.
            is_trusted: app.access.knows(peer),
        }
    }

    /// Takes the next bytes of the head. Fails if the head is too long without a valid token.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        // Nearly every head is complete after one read, and needs no search.
        if self.is_trusted || (self.bytes == 0 && ends_with_blank_line(bytes)) {
            return Ok(());
        }
        self.bytes += bytes.len();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE.saturating_sub(self.line.len());
            let kept = piece.get(..room).unwrap_or(piece);
            self.line.extend_from_slice(kept);
            if piece.ends_with(b"\n") {
                self.is_trusted |= self.is_valid_token_line();
                self.has_request_line |= !self.line.trim_ascii().is_empty();
                self.line.clear();
            }
        }
        if self.is_trusted {
            self.line = Vec::new();
            Ok(())
        } else if self.bytes <= MAX_UNTRUSTED_BYTES {
            Ok(())
        } else if self.has_request_line {
            Err(Reject::HeadersTooLarge.because(
                "Send the token's header first: the headers before it may have at most 16384 bytes, and all of them at most 65536.",
            ))
        } else {
            Err(Reject::UriTooLong.because(URI_TOO_LONG))
        }
    }

    fn is_valid_token_line(&mut self) -> bool {
        let Some(colon) = self.line.iter().position(|byte| *byte == b':') else {
            return false;
        };
        let (name, value) = self.line.split_at(colon);
        let is_token_header =
            |header: &http::HeaderName| name.eq_ignore_ascii_case(header.as_str().as_bytes());
        if self.candidates >= MAX_TOKEN_HEADERS
            || !self.app.settings.ssrf_headers.iter().any(is_token_header)
        {
            return false;
        }
        self.candidates += 1;
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        self.app
            .access
            .identify(std::iter::once(value), self.peer)
            .is_some()
    }
}

fn ends_with_blank_line(bytes: &[u8]) -> bool {
    bytes.ends_with(b"\r\n\r\n") || bytes.ends_with(b"\n\n")
}
