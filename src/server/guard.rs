//! Who is let in, decided in one fixed order.
//!
//! A web page, a server that can be made to send requests, and a proxy all differ from an application on this
//! machine in what they send. The order is part of the contract: sizes and form, forwarding headers, `Host`,
//! `Origin`, health paths, token; path, method and parameters are only looked at behind it.

use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, header};

use crate::App;
use crate::error::{ApiError, Reject};

/// The longest request target, in bytes.
const MAX_URI: usize = 8 * 1024;

/// The most bytes that the header fields may have together.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// What a proxy adds. An application on this machine talks to the agent directly.
const FORWARDING: [HeaderName; 6] = [
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    header::FORWARDED,
    header::VIA,
    HeaderName::from_static("x-real-ip"),
];

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The paths that probes ask without a token.
const HEALTH: [&str; 4] = ["/ping", "/livez", "/readyz", "/metrics"];

/// How a request got in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// By the token; the connection may be kept.
    Token,
    /// It asks for a health path, which needs none.
    Health,
}

/// Lets a request in or says why not. `port` is the one of the listener it came to.
pub(crate) fn admit(app: &App, port: u16, request: &Parts) -> Result<Admission, ApiError> {
    check_form(request)?;
    check_forwarding(&request.headers)?;
    check_host(&request.headers, port)?;
    check_origin(&request.headers)?;
    if is_health(request.uri.path()) {
        return Ok(Admission::Health);
    }
    check_token(app, &request.headers).map(|()| Admission::Token)
}

/// Whether `path` needs no token.
pub(crate) fn is_health(path: &str) -> bool {
    HEALTH.contains(&path)
}

fn check_form(request: &Parts) -> Result<(), ApiError> {
    let uri = &request.uri;
    if uri.authority().is_some() || uri.scheme().is_some() || request.method == Method::CONNECT {
        return Err(Reject::InvalidRequest
            .because("Send the path alone, not a full URL: the agent is no proxy."));
    }
    if uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len())
        > MAX_URI
    {
        return Err(Reject::UriTooLong.because("The path and query together may have 8192 bytes."));
    }
    let header_bytes: usize = request
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if header_bytes > MAX_HEADER_BYTES {
        return Err(Reject::HeadersTooLarge.because("The headers together may have 65536 bytes."));
    }
    let bodiless = request.headers.get(header::TRANSFER_ENCODING).is_none()
        && request
            .headers
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .all(|length| length.as_bytes() == b"0");
    if !bodiless {
        return Err(
            Reject::InvalidRequest.because("Send no body: everything is in the path and query.")
        );
    }
    Ok(())
}

fn check_forwarding(headers: &HeaderMap) -> Result<(), ApiError> {
    match FORWARDING.iter().find(|name| headers.contains_key(*name)) {
        Some(name) => Err(Reject::ForwardedRequest.because(format!(
            "The header {name} says that this request was forwarded; ask the agent directly, not through a proxy."
        ))),
        None => Ok(()),
    }
}

fn check_host(headers: &HeaderMap, port: u16) -> Result<(), ApiError> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Reject::InvalidRequest.because("Send exactly one Host header."));
    };
    if is_own_host(host.as_bytes(), port) {
        Ok(())
    } else {
        Err(Reject::ForbiddenHost.because(format!(
            "Ask for http://localhost:{port} or http://127.0.0.1:{port}; other host names are not served."
        )))
    }
}

fn is_own_host(host: &[u8], port: u16) -> bool {
    let split = host
        .iter()
        .rposition(|byte| *byte == b':')
        .filter(|at| !host.ends_with(b"]") && *at > 0);
    let (name, given) = match split.and_then(|at| host.split_at_checked(at)) {
        Some((name, given)) => (name, given.get(1..).unwrap_or_default()),
        None => (host, &b"80"[..]),
    };
    let own = ["localhost", "127.0.0.1", "[::1]"]
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own.as_bytes()));
    own && is_port(given, port)
}

/// Whether `text` is `port` as everybody writes it: no sign, no zeros in front.
fn is_port(text: &[u8], port: u16) -> bool {
    matches!(text.first(), Some(b'1'..=b'9'))
        && str::from_utf8(text).is_ok_and(|text| text.parse() == Ok(port))
}

fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let from_page = headers.contains_key(header::ORIGIN)
        || headers
            .get_all(SEC_FETCH_SITE)
            .iter()
            .any(|site| site != "none");
    if from_page {
        Err(Reject::ForbiddenOrigin.because("Requests of web pages are not served."))
    } else {
        Ok(())
    }
}

fn check_token(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    let mut admitted = false;
    for name in &app.settings.ssrf_headers {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Err(bad_token(app));
        }
        admitted |= app.token.admits(value.as_bytes());
    }
    if admitted {
        Ok(())
    } else {
        Err(bad_token(app))
    }
}

fn bad_token(app: &App) -> ApiError {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_with_the_right_port_are_the_agent() {
        for good in [
            "localhost:2025",
            "LocalHost:2025",
            "127.0.0.1:2025",
            "[::1]:2025",
        ] {
            assert!(is_own_host(good.as_bytes(), 2025), "{good}");
        }
        for bad in [
            "",
            ":2025",
            "localhost",
            "localhost:",
            "localhost:2026",
            "localhost:02025",
            "localhost:+2025",
            "localhost:2025 ",
            "localhost:67561",
            "localhost.:2025",
            "127.0.0.1.evil:2025",
            "evil",
            "[::1]",
            "::1:2025",
            "127.0.0.2:2025",
            "localhost:2025:2025",
            "a@localhost:2025",
        ] {
            assert!(!is_own_host(bad.as_bytes(), 2025), "{bad}");
        }
        assert!(is_own_host(b"localhost", 80));
        assert!(is_own_host(b"[::1]", 80));
    }
}
