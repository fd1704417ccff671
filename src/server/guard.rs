//! Who is let in, decided in one fixed order.
//!
//! A web page, a server that can be made to send requests, and a proxy all differ from an application on this
//! machine in what they send. The order is part of the contract: sizes and form, forwarding headers, `Host`,
//! `Origin`, health paths, token; path, method and parameters are only looked at behind it.

use std::net::Ipv6Addr;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::App;
use crate::config::MAX_TOKEN_HEADERS;
use crate::error::{ApiError, Reject};
use crate::routes::Route;
use crate::token::TOKEN_LENGTH;

/// The longest request target, in bytes.
const MAX_URI: usize = 8 * 1024;

/// The most bytes that the header fields may have together.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Sentence for a longer target.
pub(crate) const URI_TOO_LONG: &str =
    "The path and query together may have at most 8192 bytes; shorten them.";

/// Sentence for more or longer header fields.
pub(crate) const HEADERS_TOO_LARGE: &str =
    "A request may have at most 100 headers with 65536 bytes together; send fewer or shorter ones.";

/// How a request got in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// By the token; the connection may be kept.
    Token,
    /// It asks for a health path, which needs none.
    Health,
}

/// Lets a request in or says why not. `port` is the one of the listener it came to. A token that is not the one in
/// force may be newer than that: it is judged again after a look at the token's source.
pub(crate) async fn admit(
    app: &App,
    port: u16,
    request: &Parts,
    route: Option<&Route>,
) -> Result<Admission, ApiError> {
    let head = Head::read(&request.headers, &app.settings.ssrf_headers);
    check_form(request, &head)?;
    check_forwarding(&head)?;
    check_host(&head, port)?;
    check_origin(&head)?;
    if route.is_some_and(|route| !route.needs_token) {
        return Ok(Admission::Health);
    }
    if is_admitted(app, &head) {
        return Ok(Admission::Token);
    }
    if head.shows_token() {
        app.token.wait_for_look().await;
    }
    check_token(app, &head).map(|()| Admission::Token)
}

/// What the headers say, gathered in one pass over them.
#[derive(Debug, Default)]
struct Head<'a> {
    bytes: usize,
    has_body: bool,
    /// What a proxy adds. An application on this machine talks to the agent directly.
    forwarding: Option<&'a HeaderName>,
    hosts: usize,
    host: &'a [u8],
    /// Only a browser sends these.
    is_from_page: bool,
    /// What the headers that may carry the token carry, in the order of the settings.
    tokens: [Option<&'a [u8]>; MAX_TOKEN_HEADERS],
    /// One of those is there twice.
    is_token_doubled: bool,
}

impl<'a> Head<'a> {
    fn read(headers: &'a HeaderMap, ssrf_headers: &[HeaderName]) -> Self {
        let mut head = Self::default();
        for (name, value) in headers {
            head.bytes += name.as_str().len() + value.len() + 4;
            match name.as_str() {
                "host" => {
                    head.hosts += 1;
                    head.host = value.as_bytes();
                }
                "transfer-encoding" => head.has_body = true,
                "content-length" => head.has_body |= value.as_bytes() != b"0",
                "origin" => head.is_from_page = true,
                "sec-fetch-site" => head.is_from_page |= value.as_bytes() != b"none",
                // The operator may have chosen one of the other proxies' headers for the token.
                text => {
                    if !head.note_token(name, value, ssrf_headers) && is_forwarding(text) {
                        head.forwarding = Some(name);
                    }
                }
            }
        }
        head
    }

    /// Whether it carries what could be a token.
    fn shows_token(&self) -> bool {
        let mut tokens = self.tokens.iter().flatten();
        !self.is_token_doubled && tokens.any(|token| TOKEN_LENGTH.contains(&token.len()))
    }

    /// Whether `name` may carry the token.
    fn note_token(
        &mut self,
        name: &HeaderName,
        value: &'a HeaderValue,
        ssrf_headers: &[HeaderName],
    ) -> bool {
        let mut is_token = false;
        for (place, ssrf_header) in self.tokens.iter_mut().zip(ssrf_headers) {
            if ssrf_header == name {
                is_token = true;
                self.is_token_doubled |= place.replace(value.as_bytes()).is_some();
            }
        }
        is_token
    }
}

/// Whether a proxy, a gateway or a CDN adds the header `name`, in lower case, to what it forwards.
fn is_forwarding(name: &str) -> bool {
    const PREFIXES: [&str; 3] = ["x-forwarded-", "x-original-", "cf-"];
    matches!(
        name,
        "ali-cdn-real-ip"
            | "cdn-loop"
            | "client-ip"
            | "fastly-client-ip"
            | "fly-client-ip"
            | "forwarded"
            | "forwarded-for"
            | "proxy-client-ip"
            | "true-client-ip"
            | "via"
            | "wl-proxy-client-ip"
            | "x-appengine-user-ip"
            | "x-azure-clientip"
            | "x-azure-socketip"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "x-envoy-external-address"
            | "x-envoy-original-path"
            | "x-forwarded"
            | "x-forwarded-for"
            | "x-proxyuser-ip"
            | "x-real-ip"
            | "x-remote-addr"
            | "x-remote-ip"
            | "x-rewrite-url"
            | "x-true-client-ip"
    ) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
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

fn check_host(head: &Head<'_>, port: u16) -> Result<(), ApiError> {
    if head.hosts != 1 {
        Err(Reject::InvalidRequest.because("Send exactly one Host header."))
    } else if is_own_host(head.host, port) {
        Ok(())
    } else {
        Err(Reject::ForbiddenHost.because(format!(
            "Ask for http://localhost:{port}, http://127.0.0.1:{port} or http://[::1]:{port}; other host names are not served."
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
    (own || is_ipv6_loopback(name)) && is_port(given, port)
}

/// Whether `name` is `::1` in brackets, in any spelling: Java writes `[0:0:0:0:0:0:0:1]`.
fn is_ipv6_loopback(name: &[u8]) -> bool {
    name.strip_prefix(b"[")
        .and_then(|name| name.strip_suffix(b"]"))
        .and_then(|name| str::from_utf8(name).ok())
        .is_some_and(|name| name.parse() == Ok(Ipv6Addr::LOCALHOST))
}

/// Whether `text` is `port` as everybody writes it: no sign, no zeros in front.
fn is_port(text: &[u8], port: u16) -> bool {
    matches!(text.first(), Some(b'1'..=b'9'))
        && str::from_utf8(text).is_ok_and(|text| text.parse() == Ok(port))
}

fn check_origin(head: &Head<'_>) -> Result<(), ApiError> {
    if head.is_from_page {
        Err(Reject::ForbiddenOrigin.because(
            "Requests of web pages are not served; ask without Origin and Sec-Fetch-Site headers.",
        ))
    } else {
        Ok(())
    }
}

fn is_admitted(app: &App, head: &Head<'_>) -> bool {
    // Every one is looked at, whichever is right.
    let admits = |admitted, token: &&[u8]| admitted | app.token.admits(token);
    head.tokens.iter().flatten().fold(false, admits) && !head.is_token_doubled
}

fn check_token(app: &App, head: &Head<'_>) -> Result<(), ApiError> {
    if is_admitted(app, head) {
        return Ok(());
    }
    let names: Vec<&str> = app
        .settings
        .ssrf_headers
        .iter()
        .map(HeaderName::as_str)
        .collect();
    Err(Reject::InvalidToken.because(format!(
        "Send the agent's token, once, in the header {}.",
        names.join(" or ")
    )))
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
            "[0:0:0:0:0:0:0:1]:2025",
            "[0000:0000:0000:0000:0000:0000:0000:0001]:2025",
            "[::0:1]:2025",
            "[0::1]:2025",
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
            "0:0:0:0:0:0:0:1:2025",
            "[0:0:0:0:0:0:0:1]",
            "[0:0:0:0:0:0:0:1]:2026",
            "[0:0:0:0:0:0:0:2]:2025",
            "[::ffff:127.0.0.1]:2025",
            "[::1%lo]:2025",
            "[[::1]]:2025",
            "[::1]x:2025",
            "[localhost]:2025",
            "[127.0.0.1]:2025",
            "127.0.0.2:2025",
            "localhost:2025:2025",
            "a@localhost:2025",
        ] {
            assert!(!is_own_host(bad.as_bytes(), 2025), "{bad}");
        }
        assert!(is_own_host(b"localhost", 80));
        assert!(is_own_host(b"[::1]", 80));
    }

    #[test]
    fn headers_of_proxies_are_told_from_those_of_applications() {
        for name in [
            "x-forwarded-port",
            "x-forwarded-anything",
            "x-original-url",
            "cf-connecting-ip",
            "cf-ray",
            "true-client-ip",
            "x-client-ip",
        ] {
            assert!(is_forwarding(name), "{name}");
        }
        for name in [
            "x-kms-token",
            "x-vault-token",
            "x-request-id",
            "user-agent",
            "cfg",
        ] {
            assert!(!is_forwarding(name), "{name}");
        }
    }
}
