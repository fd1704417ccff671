//! From a query string or a path to the secret that is meant.

use std::borrow::Cow;
use std::fmt::Display;

use kms_agent_cache::Demand;
use kms_agent_core::secret::InvalidText;
use kms_agent_core::{SecretId, SecretRef, VersionSelector};
use percent_encoding::percent_decode;

use crate::error::{ApiError, Reject};

/// A reader's question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) secret: SecretRef,
    pub(crate) demand: Demand,
}

/// `?secretId=…&versionId=…&versionStage=…&refreshNow=…`
pub(crate) fn parse_query(query: &str) -> Result<Question, ApiError> {
    let parameters = Parameters::parse(
        query,
        &["secretId", "versionId", "versionStage", "refreshNow"],
    )?;
    let Some(id) = parameters.secret_id.as_deref().filter(|id| !id.is_empty()) else {
        return Err(Reject::MissingParameter.because("Name the secret: ?secretId=<name or ARN>."));
    };
    parameters.question(id)
}

/// `<PathPrefix><id>?versionId=…&versionStage=…&refreshNow=…`, `path` being what follows the prefix.
pub(crate) fn parse_path(path: &str, query: &str) -> Result<Question, ApiError> {
    Parameters::parse(query, &["versionId", "versionStage", "refreshNow"])?.question_for(path)
}

/// The same as Vault's clients ask it: `secret/data/` before the id, and perhaps a `version` beside it. KMS
/// versions have no numbers, so only the latest one can be asked for that way.
pub(crate) fn parse_vault_path(path: &str, query: &str) -> Result<Question, ApiError> {
    let parameters = Parameters::parse(
        query,
        &["versionId", "versionStage", "refreshNow", "version"],
    )?;
    if !matches!(parameters.version.as_deref(), None | Some("0" | "1")) {
        return Err(Reject::InvalidParameter.because(
            "The parameter version takes 0 or 1: KMS versions have no numbers. Use versionId or versionStage.",
        ));
    }
    parameters.question_for(path.strip_prefix("secret/data/").unwrap_or(path))
}

/// What to let go of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PurgeOrder {
    /// Every version of one secret.
    Secret(SecretId),
    /// Everything; `force` also while KMS is failing.
    All { force: bool },
}

/// `?secretId=…` or `?all=true[&force=true]`
pub(crate) fn parse_purge(query: &str) -> Result<PurgeOrder, ApiError> {
    let parameters = Parameters::parse(query, &["secretId", "all", "force"])?;
    let all = flag("all", parameters.all.as_deref())?;
    let force = flag("force", parameters.force.as_deref())?;
    if all && parameters.secret_id.is_some() {
        return Err(Reject::InvalidParameter
            .because("Send secretId or all, not both: all purges every secret."));
    }
    match parameters.secret_id.as_deref().filter(|id| !id.is_empty()) {
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

/// true/false/1/0 in any case; absent is false.
fn flag(name: &str, text: Option<&str>) -> Result<bool, ApiError> {
    match text {
        None => Ok(false),
        Some(text) if text == "1" || text.eq_ignore_ascii_case("true") => Ok(true),
        Some(text) if text == "0" || text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(Reject::InvalidParameter
            .because(format!("The parameter {name} takes true, false, 1 or 0."))),
    }
}

#[derive(Default)]
struct Parameters<'a> {
    secret_id: Option<Cow<'a, str>>,
    version_id: Option<Cow<'a, str>>,
    version_stage: Option<Cow<'a, str>>,
    refresh_now: Option<Cow<'a, str>>,
    version: Option<Cow<'a, str>>,
    all: Option<Cow<'a, str>>,
    force: Option<Cow<'a, str>>,
}

impl<'a> Parameters<'a> {
    /// Takes the parameters of `known`, each once.
    fn parse(query: &'a str, known: &[&str]) -> Result<Self, ApiError> {
        let mut parameters = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name, "The name of a parameter")?;
            let known_name = known.iter().find(|known| **known == name);
            let (Some(slot), Some(name)) = (parameters.slot(&name), known_name) else {
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
        Ok(parameters)
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<Cow<'a, str>>> {
        match name {
            "secretId" => Some(&mut self.secret_id),
            "versionId" => Some(&mut self.version_id),
            "versionStage" => Some(&mut self.version_stage),
            "refreshNow" => Some(&mut self.refresh_now),
            "version" => Some(&mut self.version),
            "all" => Some(&mut self.all),
            "force" => Some(&mut self.force),
            _ => None,
        }
    }

    fn question_for(&self, path: &str) -> Result<Question, ApiError> {
        let id = decode(path, "The secret id in the path")?;
        if id.is_empty() {
            return Err(Reject::MissingParameter.because("Name the secret after the path prefix."));
        }
        self.question(&id)
    }

    fn question(&self, id: &str) -> Result<Question, ApiError> {
        let id = SecretId::parse(id).map_err(|error| invalid("secretId", error))?;
        let selector =
            VersionSelector::parse(self.version_id.as_deref(), self.version_stage.as_deref())
                .map_err(|error| invalid("versionId or versionStage", error))?;
        let demand = if flag("refreshNow", self.refresh_now.as_deref())? {
            Demand::RefreshNow
        } else {
            Demand::Any
        };
        Ok(Question {
            secret: SecretRef { id, selector },
            demand,
        })
    }
}

fn invalid(name: &str, error: InvalidText) -> ApiError {
    Reject::InvalidParameter.because(format!("The parameter {name} {error}."))
}

/// Percent-decoding, strictly: a `%` that begins no escape is an error, and so is what is no UTF-8. A `+` is a
/// plus, which secret names may hold; a space they may not.
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

    fn id_of(question: Result<Question, ApiError>) -> String {
        question.unwrap().secret.id.as_str().to_owned()
    }

    fn code(question: Result<Question, ApiError>) -> String {
        question.unwrap_err().code
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
    fn a_question_may_name_a_version_and_demand_freshness() {
        let question =
            parse_query("versionStage=AWSPREVIOUS&refreshNow=TRUE&secretId=a&versionId=").unwrap();
        assert_eq!(question.secret.selector.stage(), Some("ACSPrevious"));
        assert_eq!(question.demand, Demand::RefreshNow);
        for no in ["0", "false", "False"] {
            assert_eq!(
                parse_path("a", &format!("refreshNow={no}")).unwrap().demand,
                Demand::Any
            );
        }
    }

    #[test]
    fn bad_questions_are_refused_by_name() {
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

    #[test]
    fn vault_clients_ask_in_their_own_way() {
        for path in ["secret/data/app%2Fdb", "app/db"] {
            for query in ["", "version=0", "version=1"] {
                assert_eq!(id_of(parse_vault_path(path, query)), "app/db");
            }
        }
        assert_eq!(
            code(parse_vault_path("secret/data/a", "version=2")),
            "InvalidParameter"
        );
        assert_eq!(
            code(parse_vault_path("secret/data/", "")),
            "MissingParameter"
        );
    }
}
