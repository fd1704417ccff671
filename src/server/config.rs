//! Keys of the table `Server` that this layer reads.

use http::HeaderName;
use kms_agent_core::config::ConfigTable;
use kms_agent_core::pattern::Pattern;

use crate::caller::{MAX_PATTERNS, PATTERNS, parse_pattern};
use crate::format::ResponseType;
use crate::routes::{self, ErrorFormat, Route};

/// Number of headers that may carry the token.
pub(crate) const MAX_TOKEN_HEADERS: usize = 8;

/// Headers that HTTP or the guard uses.
const RESERVED_HEADERS: [&str; 14] = [
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "origin",
    "sec-fetch-site",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-real-ip",
];

/// Settings of the HTTP layer.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Headers that may carry the token.
    pub ssrf_headers: Vec<HeaderName>,
    /// Prefix of the path route for secrets, with a slash at both ends.
    pub path_prefix: String,
    /// Number of connections that are served at a time.
    pub max_conn: usize,
    /// Number of requests that may wait for a change at a time.
    pub max_watchers: usize,
    /// Format of the secret routes.
    pub response_type: ResponseType,
    /// Secrets that the agent's own token opens.
    pub default_secrets: Vec<Pattern>,
}

impl ServerSettings {
    /// Reads its keys from the table `Server`; `None` after a problem.
    pub fn read(table: &mut ConfigTable<'_>) -> Option<Self> {
        let ssrf_headers = table.strings(
            "SSRFHeaders",
            1..=MAX_TOKEN_HEADERS,
            &["X-KMS-Token", "X-Vault-Token"],
            "a list of 1 to 8 header names",
            parse_header,
        );
        let path_prefix = table.string(
            "PathPrefix",
            "/v1/",
            "a path that begins and ends with / and overlaps no fixed route",
            parse_prefix,
        );
        let max_conn = table.integer("MaxConn", 1..=1000, 800);
        let max_watchers = table.integer("MaxWatchers", 0..=10_000, 1000);
        let response_type = table.integer("ResponseType", 0..=ResponseType::LAST, 0);
        let default_secrets = table.strings(
            "DefaultSecrets",
            0..=MAX_PATTERNS,
            &["*"],
            PATTERNS,
            parse_pattern,
        );
        Some(Self {
            default_secrets: default_secrets?,
            ssrf_headers: ssrf_headers?,
            path_prefix: path_prefix?,
            max_conn: usize::try_from(max_conn).unwrap_or(usize::MAX),
            max_watchers: usize::try_from(max_watchers).unwrap_or(usize::MAX),
            response_type: ResponseType::numbered(response_type).unwrap_or(ResponseType::KMS),
        })
    }
}

impl ServerSettings {
    /// Returns the format of errors on `route`; `None` is an unknown path.
    pub(crate) fn error_format(&self, route: Option<&Route>) -> ResponseType {
        match route.map(|route| route.errors) {
            Some(ErrorFormat::Configured) => self.response_type,
            Some(ErrorFormat::Kms) | None => ResponseType::KMS,
        }
    }
}

fn parse_header(text: &str) -> Result<HeaderName, String> {
    let name: HeaderName = text
        .parse()
        .map_err(|_| "must be a list of header names (letters, digits and -)".to_owned())?;
    if RESERVED_HEADERS.contains(&name.as_str()) || name.as_str().starts_with("x-forwarded-") {
        return Err(format!(
            "the header {name} has a meaning of its own and cannot carry the token"
        ));
    }
    Ok(name)
}

fn parse_prefix(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    if !text.starts_with('/') || !text.ends_with('/') {
        return Err("must begin and end with /".to_owned());
    }
    if !text.bytes().all(plain) || text.contains("//") || text.len() > 128 {
        return Err("must be at most 128 letters, digits, - . _ ~ and single slashes".to_owned());
    }
    match routes::fixed_roots()
        .find(|root| root.starts_with(text) || text.starts_with(root.as_str()))
    {
        Some(root) => Err(format!(
            "overlaps the fixed route {}",
            root.trim_end_matches('/')
        )),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_overlaps_no_fixed_route() {
        for good in ["/v1/", "/v2/secret/", "/agents/", "/a.b_c~d-e/"] {
            assert_eq!(parse_prefix(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "/",
            "v1/",
            "/v1",
            "/a//b/",
            "/{x}/",
            "/a b/",
            "/agent/",
            "/secretsmanager/get/",
            "/ping/x/",
        ] {
            assert!(parse_prefix(bad).is_err(), "{bad} was accepted");
        }
    }
}
