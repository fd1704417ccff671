//! Admission of requests, in one fixed order of checks.
//!
//! A web page, a server that can be made to send requests, and a proxy all differ from an application on this
//! machine in what they send. The order is part of the contract: sizes and form, forwarding headers, `Host`,
//! `Origin`, health paths, token. Path, method and parameters are checked after it.

mod authority;
mod head;

use http::request::Parts;
use http::{HeaderName, Method};
use zeroize::Zeroizing;

pub(crate) use self::authority::Authorities;
use self::head::Head;
use crate::app::App;
use crate::caller::{Caller, Peer};
use crate::error::{ApiError, Reject};
use crate::routes::Route;

/// Bytes that a request target may have.
const MAX_URI: usize = 8 * 1024;

/// Bytes that all header fields may have together.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Sentence for a longer target.
pub(crate) const URI_TOO_LONG: &str =
    "The path and query together may have at most 8192 bytes; shorten them.";

/// Sentence for more or longer header fields.
pub(crate) const HEADERS_TOO_LARGE: &str =
    "A request may have at most 100 headers with 65536 bytes together; send fewer or shorter ones.";

/// Reason why a request is admitted.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Its caller is known by a token or its credentials; the connection may be kept.
    Known(Caller),
    /// Its path is a health path, which needs no token.
    Health,
}

/// Admits or refuses a request. `authorities` are those of its listener. A token that is not the current one may be newer,
/// so it is checked again after the source of tokens has been read.
pub(crate) async fn admit(
    app: &App,
    authorities: Authorities,
    request: &Parts,
    route: Option<&Route>,
    peer: &Peer,
) -> Result<Admission, ApiError> {
    let head = Head::read(&request.headers, &app.settings.ssrf_headers);
    check_form(request, &head)?;
    check_forwarding(&head)?;
    check_host(&head, authorities)?;
    check_origin(&head)?;
    if route.is_some_and(|route| !route.needs_token) {
        return Ok(Admission::Health);
    }
    app.access.examine(peer).await;
    if let Some(caller) = identify(app, &head, peer) {
        return Ok(Admission::Known(caller));
    }
    if head.shows_token() {
        app.access.wait_for_read().await;
    }
    identify(app, &head, peer)
        .map(Admission::Known)
        .ok_or_else(|| unknown_caller(app))
}

fn check_form(request: &Parts, head: &Head<'_>) -> Result<(), ApiError> {
    let uri = &request.uri;
    if uri.authority().is_some() || uri.scheme().is_some() || request.method == Method::CONNECT {
        return Err(Reject::InvalidRequest
            .because("Send the path alone, not a full URL: the agent is not a proxy."));
    }
    if uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len())
        > MAX_URI
    {
        return Err(Reject::UriTooLong.because(URI_TOO_LONG));
    }
    if head.bytes > MAX_HEADER_BYTES {
        return Err(Reject::HeadersTooLarge.because(HEADERS_TOO_LARGE));
    }
    if head.has_body {
        return Err(
            Reject::InvalidRequest.because("Send no body: everything is in the path and query.")
        );
    }
    Ok(())
}

fn check_forwarding(head: &Head<'_>) -> Result<(), ApiError> {
    match head.forwarding {
        Some(name) => Err(Reject::ForwardedRequest.because(format!(
            "The header {name} says that this request was forwarded; ask the agent directly, not through a proxy."
        ))),
        None => Ok(()),
    }
}

fn check_host(head: &Head<'_>, authorities: Authorities) -> Result<(), ApiError> {
    if head.hosts != 1 {
        Err(Reject::InvalidRequest.because("Send exactly one Host header."))
    } else if authorities.contain(head.host) {
        Ok(())
    } else {
        Err(Reject::ForbiddenHost.because(authorities.remedy()))
    }
}

fn check_origin(head: &Head<'_>) -> Result<(), ApiError> {
    if head.is_from_page {
        Err(Reject::ForbiddenOrigin.because(
            "Requests from web pages are not served; send no Origin or Sec-Fetch-Site header.",
        ))
    } else {
        Ok(())
    }
}

fn identify(app: &App, head: &Head<'_>, peer: &Peer) -> Option<Caller> {
    let caller = app
        .access
        .identify(head.tokens.iter().copied().flatten(), peer);
    caller.filter(|_| !head.is_token_doubled)
}

/// A token that a request has shown, wiped on drop.
pub(crate) type ShownToken = Zeroizing<Vec<u8>>;

/// Returns the tokens of an admitted request, so that its rights can be decided again.
pub(crate) fn shown_tokens(app: &App, request: &Parts) -> Vec<ShownToken> {
    let head = Head::read(&request.headers, &app.settings.ssrf_headers);
    let tokens = head.tokens.iter().flatten();
    tokens.map(|token| Zeroizing::new(token.to_vec())).collect()
}

/// Returns the error for a caller that is not known.
pub(crate) fn unknown_caller(app: &App) -> ApiError {
    let names: Vec<&str> = app
        .settings
        .ssrf_headers
        .iter()
        .map(HeaderName::as_str)
        .collect();
    Reject::InvalidToken.because(format!(
        "Send the agent's token, once, in the header {}.",
        names.join(" or ")
    ))
}
