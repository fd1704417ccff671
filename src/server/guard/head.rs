//! Headers of a request as far as the guard judges them.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::caller::token::TOKEN_LENGTH;
use crate::config::MAX_TOKEN_HEADERS;

/// Facts about the headers, gathered in one pass.
#[derive(Debug, Default)]
pub(super) struct Head<'a> {
    pub(super) bytes: usize,
    pub(super) has_body: bool,
    /// Header that a proxy adds. An application on this machine talks to the agent directly.
    pub(super) forwarding: Option<&'a HeaderName>,
    pub(super) hosts: usize,
    pub(super) host: &'a [u8],
    /// Only a browser sends these.
    pub(super) is_from_page: bool,
    /// Values of the headers that may carry the token, in the order of the settings.
    pub(super) tokens: [Option<&'a [u8]>; MAX_TOKEN_HEADERS],
    /// One of those headers is present twice.
    pub(super) is_token_doubled: bool,
}

impl<'a> Head<'a> {
    pub(super) fn read(headers: &'a HeaderMap, ssrf_headers: &[HeaderName]) -> Self {
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

    /// Whether a header carries a possible token.
    pub(super) fn shows_token(&self) -> bool {
        let mut tokens = self.tokens.iter().flatten();
        !self.is_token_doubled && tokens.any(|token| TOKEN_LENGTH.contains(&token.len()))
    }

    /// Takes `value` if `name` may carry the token, and returns whether it may.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_proxies_are_distinguished_from_those_of_applications() {
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
