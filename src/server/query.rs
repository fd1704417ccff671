//! Parameters and paths that name a secret.

pub(crate) mod parameters;

use kms_agent_cache::Demand;
use kms_agent_core::secret::InvalidText;
use kms_agent_core::{SecretId, SecretRef, VersionSelector};

pub(crate) use self::parameters::QueryParameters;
use self::parameters::decode;
use crate::error::{ApiError, Reject};

/// A request for a secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SecretQuery {
    pub(crate) secret: SecretRef,
    pub(crate) demand: Demand,
    pub(crate) part: RequestedPart,
}

/// Part of the secret that the response carries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestedPart {
    /// Member of the value, in place of the whole value.
    pub(crate) field: Option<Box<str>>,
    /// The value alone, without the response around it.
    pub(crate) is_value_alone: bool,
}

/// `?secretId=…` and the parameters of a read.
pub(crate) fn parse_query(query: &str) -> Result<SecretQuery, ApiError> {
    const KNOWN: [&str; 6] = [
        "secretId",
        "versionId",
        "versionStage",
        "refreshNow",
        "field",
        "format",
    ];
    let parameters = QueryParameters::parse(query, &KNOWN)?;
    let Some(id) = parameters.get("secretId").filter(|id| !id.is_empty()) else {
        return Err(Reject::MissingParameter.because("Name the secret: ?secretId=<name or ARN>."));
    };
    parameters.secret(id)
}

/// `<PathPrefix><id>` and the parameters of a read; `path` is the part after the prefix.
pub(crate) fn parse_path(path: &str, query: &str) -> Result<SecretQuery, ApiError> {
    const KNOWN: [&str; 5] = ["versionId", "versionStage", "refreshNow", "field", "format"];
    QueryParameters::parse(query, &KNOWN)?.secret_in_path(path)
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
    let parameters = QueryParameters::parse(query, &KNOWN)?;
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

impl<const N: usize> QueryParameters<'_, N> {
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
            part: self.part()?,
        })
    }

    fn part(&self) -> Result<RequestedPart, ApiError> {
        let field = self.get("field");
        if field == Some("") {
            return Err(Reject::InvalidParameter
                .because("The parameter field is empty; name a member of the value."));
        }
        let is_value_alone = match self.get("format") {
            None => false,
            Some("value") => true,
            Some(_) => {
                return Err(Reject::InvalidParameter.because("The parameter format takes value."));
            }
        };
        Ok(RequestedPart {
            field: field.map(Box::from),
            is_value_alone,
        })
    }
}

/// Returns the error for a parameter that is not a valid text.
pub(crate) fn invalid(name: &str, error: InvalidText) -> ApiError {
    Reject::InvalidParameter.because(format!("The parameter {name} {error}."))
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
            ("secretId=a&field=", "InvalidParameter"),
            ("secretId=a&field=b&field=b", "InvalidParameter"),
            ("secretId=a&field=%FF", "InvalidParameter"),
            ("secretId=a&format=", "InvalidParameter"),
            ("secretId=a&format=VALUE", "InvalidParameter"),
            ("secretId=a&format=json", "InvalidParameter"),
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
