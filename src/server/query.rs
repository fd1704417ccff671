//! Parameters and paths that name a secret.

use std::borrow::Cow;
use std::fmt::Display;

use kms_agent_cache::Demand;
use kms_agent_core::secret::InvalidText;
use kms_agent_core::{SecretId, SecretRef, VersionSelector};
use percent_encoding::percent_decode;

use crate::error::{ApiError, Reject};

/// A request for a secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SecretQuery {
    pub(crate) secret: SecretRef,
    pub(crate) demand: Demand,
}

/// `?secretId=…&versionId=…&versionStage=…&refreshNow=…`
pub(crate) fn parse_query(query: &str) -> Result<SecretQuery, ApiError> {
    const KNOWN: [&str; 4] = ["secretId", "versionId", "versionStage", "refreshNow"];
    let parameters = Parameters::parse(query, &KNOWN)?;
    let Some(id) = parameters.get("secretId").filter(|id| !id.is_empty()) else {
        return Err(Reject::MissingParameter.because("Name the secret: ?secretId=<name or ARN>."));
    };
    parameters.secret(id)
}

/// `<PathPrefix><id>?versionId=…&versionStage=…&refreshNow=…`; `path` is the part after the prefix.
pub(crate) fn parse_path(path: &str, query: &str) -> Result<SecretQuery, ApiError> {
    const KNOWN: [&str; 3] = ["versionId", "versionStage", "refreshNow"];
    Parameters::parse(query, &KNOWN)?.secret_in_path(path)
}

/// Request to purge entries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PurgeOrder {
    /// Every version of one secret.
    Secret(SecretId),
    /// Every secret; `force` also while KMS is failing.
    All { force: bool },
}

/// `?secretId=…` or `?all=true[&force=true]`
pub(crate) fn parse_purge(query: &str) -> Result<PurgeOrder, ApiError> {
    const KNOWN: [&str; 3] = ["secretId", "all", "force"];
    let parameters = Parameters::parse(query, &KNOWN)?;
    let all = parameters.flag("all")?;
    let force = parameters.flag("force")?;
    if all && parameters.get("secretId").is_some() {
        return Err(Reject::InvalidParameter
            .because("Send secretId or all, not both: all purges every secret."));
    }
    match parameters.get("secretId").filter(|id| !id.is_empty()) {
        None if all => Ok(PurgeOrder::All { force }),
        None => Err(Reject::MissingParameter
            .because("Say what to purge: ?secretId=<name or ARN> or ?all=true.")),
        Some(_) if force => Err(Reject::InvalidParameter
            .because("The parameter force goes with all, not with secretId.")),
        Some(id) => SecretId::parse(id)
            .map(PurgeOrder::Secret)
            .map_err(|error| invalid("secretId", error)),
    }
}

/// Parameters of a query, of which `N` are known.
pub(crate) struct Parameters<'a, const N: usize> {
    known: &'static [&'static str; N],
    /// Values in the order of `known`.
    values: [Option<Cow<'a, str>>; N],
}

impl<'a, const N: usize> Parameters<'a, N> {
    /// Reads the parameters of `known`, each at most once.
    pub(crate) fn parse(
        query: &'a str,
        known: &'static [&'static str; N],
    ) -> Result<Self, ApiError> {
        let mut values = [const { None }; N];
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name, "The name of a parameter")?;
            let mut slots = known.iter().zip(&mut values);
            let Some((name, slot)) = slots.find(|(known, _)| **known == name) else {
                // Cut, since it may be anything.
                let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
                return Err(Reject::InvalidParameter.because(format!(
                    "Unknown parameter {shown}; there are {}.",
                    known.join(", ")
                )));
            };
            if slot
                .replace(decode(value, format_args!("The parameter {name}"))?)
                .is_some()
            {
                return Err(Reject::InvalidParameter.because(format!(
                    "The parameter {name} is given twice; send it once."
                )));
            }
        }
        Ok(Self { known, values })
    }

    /// Returns the value of a parameter; `None` if it is absent or not known.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut slots = self.known.iter().zip(&self.values);
        let (_, value) = slots.find(|(known, _)| **known == name)?;
        value.as_deref()
    }

    /// Returns true for true and 1, false for false, 0 and an absent parameter, in any case.
    fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None => Ok(false),
            Some(text) if text == "1" || text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text == "0" || text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(Reject::InvalidParameter
                .because(format!("The parameter {name} takes true, false, 1 or 0."))),
        }
    }

    /// Reads the request for the secret whose id, percent-encoded, is `path`.
    pub(crate) fn secret_in_path(&self, path: &str) -> Result<SecretQuery, ApiError> {
        let id = decode(path, "The secret id in the path")?;
        if id.is_empty() {
            return Err(Reject::MissingParameter.because("Name the secret after the path prefix."));
        }
        self.secret(&id)
    }

    fn secret(&self, id: &str) -> Result<SecretQuery, ApiError> {
        let id = SecretId::parse(id).map_err(|error| invalid("secretId", error))?;
        let selector = VersionSelector::parse(self.get("versionId"), self.get("versionStage"))
            .map_err(|error| invalid("versionId or versionStage", error))?;
        let demand = if self.flag("refreshNow")? {
            Demand::RefreshNow
        } else {
            Demand::Any
        };
        Ok(SecretQuery {
            secret: SecretRef { id, selector },
            demand,
        })
    }
}

fn invalid(name: &str, error: InvalidText) -> ApiError {
    Reject::InvalidParameter.because(format!("The parameter {name} {error}."))
}

/// Decodes percent-encoding strictly: a `%` that does not begin an escape is an error, and so are bytes that are not
/// UTF-8. A `+` stays a plus, which secret names may have; a space they may not.
fn decode(text: &str, what: impl Display) -> Result<Cow<'_, str>, ApiError> {
    if !text.as_bytes().contains(&b'%') {
        return Ok(Cow::Borrowed(text));
    }
    let reject = |how| Reject::InvalidParameter.because(format!("{what} {how}."));
    if !escapes_are_whole(text.as_bytes()) {
        return Err(reject(
            "has a % that is not followed by two hex digits; write a plain % as %25",
        ));
    }
    percent_decode(text.as_bytes())
        .decode_utf8()
        .map_err(|_| reject("is not UTF-8 after percent-decoding; encode the bytes of UTF-8"))
}

fn escapes_are_whole(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'%')
        .skip(1)
        .all(|rest| matches!(rest, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(query: Result<SecretQuery, ApiError>) -> String {
        query.unwrap().secret.id.as_str().to_owned()
    }

    fn code(query: Result<SecretQuery, ApiError>) -> String {
        query.unwrap_err().code
    }

    #[test]
    fn names_of_every_kind_survive_both_ways() {
        for (encoded, name) in [
            ("app/db", "app/db"),
            ("a+b", "a+b"),
            ("a%2Bb", "a+b"),
            ("a%20b", "a b"),
            ("a%252Fb", "a%2Fb"),
            ("a=b@c.d_e-f~g*", "a=b@c.d_e-f~g*"),
            ("%E5%AF%86%E7%A0%81", "密码"),
            ("a%26b", "a&b"),
            (
                "acs:kms:cn-hangzhou:1:secret/app%2Fdb",
                "acs:kms:cn-hangzhou:1:secret/app/db",
            ),
        ] {
            assert_eq!(id_of(parse_query(&format!("secretId={encoded}"))), name);
            assert_eq!(id_of(parse_path(encoded, "")), name);
        }
    }

    #[test]
    fn a_query_may_name_a_version_and_demand_freshness() {
        let query =
            parse_query("versionStage=AWSPREVIOUS&refreshNow=TRUE&secretId=a&versionId=").unwrap();
        assert_eq!(query.secret.selector.stage(), Some("ACSPrevious"));
        assert_eq!(query.demand, Demand::RefreshNow);
        for no in ["0", "false", "False"] {
            assert_eq!(
                parse_path("a", &format!("refreshNow={no}")).unwrap().demand,
                Demand::Any
            );
        }
    }

    #[test]
    fn bad_queries_are_refused_by_name() {
        for (query, expected) in [
            ("", "MissingParameter"),
            ("secretId=", "MissingParameter"),
            ("secretId", "MissingParameter"),
            ("secretId=a&secretId=a", "InvalidParameter"),
            ("secretId=a&secretid=a", "InvalidParameter"),
            ("secretId=a&refreshNow=", "InvalidParameter"),
            ("secretId=a&refreshNow=yes", "InvalidParameter"),
            ("secretId=a%", "InvalidParameter"),
            ("secretId=a%2", "InvalidParameter"),
            ("secretId=a%zz", "InvalidParameter"),
            ("secretId=%FF", "InvalidParameter"),
            ("secretId=a%00", "InvalidParameter"),
            ("secretId=a%0A", "InvalidParameter"),
            ("secretId=a&versionId=%07", "InvalidParameter"),
        ] {
            assert_eq!(code(parse_query(query)), expected, "{query}");
        }
        assert_eq!(code(parse_path("", "")), "MissingParameter");
        assert_eq!(code(parse_path("a", "secretId=b")), "InvalidParameter");
        assert!(parse_query("&secretId=a&").is_ok());
        assert_eq!(code(parse_path("a", "version=1")), "InvalidParameter");
    }

    #[test]
    fn a_purge_names_one_secret_or_says_all() {
        let id = SecretId::parse("a/b").unwrap();
        assert_eq!(
            parse_purge("secretId=a%2Fb").unwrap(),
            PurgeOrder::Secret(id)
        );
        assert_eq!(
            parse_purge("all=TRUE").unwrap(),
            PurgeOrder::All { force: false }
        );
        assert_eq!(
            parse_purge("all=1&force=true").unwrap(),
            PurgeOrder::All { force: true }
        );
        for (query, expected) in [
            ("", "MissingParameter"),
            ("all=false", "MissingParameter"),
            ("force=1", "MissingParameter"),
            ("secretId=a&all=1", "InvalidParameter"),
            ("all=yes", "InvalidParameter"),
            ("versionId=a", "InvalidParameter"),
        ] {
            assert_eq!(parse_purge(query).unwrap_err().code, expected, "{query}");
        }
    }
}
