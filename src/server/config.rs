//! The keys of the table `Server` that this layer reads.

use http::HeaderName;
use kms_agent_core::config::ConfigTable;

use crate::routes::{self, Dialect, Route};

/// In the `Accept` header of a request for a secret it asks for the form of KMS, whatever [`ResponseType`] is set. Only
/// that form has every value byte for byte.
pub const KMS_MEDIA_TYPE: &str = "application/vnd.alibabacloud-kms+json";

/// How many headers may carry the token.
pub(crate) const MAX_TOKEN_HEADERS: usize = 8;

/// Headers that HTTP or the guard has a use for.
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

/// The form of answers and errors on the secret routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseType {
    /// 0: as KMS says it.
    #[default]
    Kms,
    /// 1: as AWS Secrets Manager would.
    Aws,
    /// 2: as Vault's KV version 2 engine would.
    Vault,
}

/// The operator's settings of the HTTP layer.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The headers that may carry the token.
    pub ssrf_headers: Vec<HeaderName>,
    /// Where the path-style secret route begins; with a slash at both ends.
    pub path_prefix: String,
    /// The most connections served at a time.
    pub max_conn: usize,
    /// The form of what the secret routes say.
    pub response_type: ResponseType,
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
        let response_type = table.integer("ResponseType", 0..=2, 0);
        Some(Self {
            ssrf_headers: ssrf_headers?,
            path_prefix: path_prefix?,
            max_conn: usize::try_from(max_conn).unwrap_or(usize::MAX),
            response_type: match response_type {
                1 => ResponseType::Aws,
                2 => ResponseType::Vault,
                _ => ResponseType::Kms,
            },
        })
    }
}

impl ServerSettings {
    /// Form in which requests for `route` are answered, and those for an unknown path.
    pub(crate) fn format_of(&self, route: Option<&Route>) -> ResponseType {
        match route.map(|route| route.dialect) {
            Some(Dialect::Configured) => self.response_type,
            Some(Dialect::Kms) | None => ResponseType::Kms,
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
