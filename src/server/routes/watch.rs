//! `GET /agent/watch`: parameters and answers. The wait itself is in `src/server/serve/waiting.rs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use kms_agent_cache::WatchState;
use kms_agent_core::{SecretId, SecretRef, VersionSelector};
use serde::Serialize;

use crate::error::{ApiError, Reject};
use crate::format::ResponseType;
use crate::query::invalid;
use crate::query::parameters::{decode, given_twice, shown, unknown};
use crate::response::{self, FullResponse};

const KNOWN: [&str; 4] = ["secretId", "since", "versionStage", "wait"];

/// Number of secrets that one request may watch.
const MAX_SECRETS: usize = 20;

/// Time that a request waits unless it says otherwise.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);

/// Longest time that a request may wait, in seconds.
const MAX_WAIT: u64 = 60;

/// A request to wait for a change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WatchOrder {
    /// Secrets, each with the version that the caller knows.
    pub(crate) secrets: Vec<(SecretRef, Option<Box<str>>)>,
    pub(crate) wait: Duration,
}

/// Reads `?secretId=…&since=…&versionStage=…&wait=…`. The first `since` belongs to the first `secretId`, and so on.
pub(crate) fn parse(query: &str) -> Result<WatchOrder, ApiError> {
    let (mut ids, mut since) = (Vec::new(), Vec::new());
    let (mut stage, mut wait) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name, "The name of a parameter")?;
        let value = decode(value, format_args!("The parameter {}", shown(&name)))?;
        let replaced = match &*name {
            "secretId" => {
                ids.push(value);
                None
            }
            "since" => {
                since.push(value);
                None
            }
            "versionStage" => stage.replace(value),
            "wait" => wait.replace(value),
            _ => return Err(unknown(&name, &KNOWN)),
        };
        if replaced.is_some() {
            return Err(given_twice(&name));
        }
    }
    if ids.is_empty() || ids.iter().any(|id| id.is_empty()) {
        return Err(Reject::MissingParameter.because("Name the secret: ?secretId=<name or ARN>."));
    }
    if ids.len() > MAX_SECRETS {
        return Err(Reject::InvalidParameter.because("One request watches at most 20 secrets."));
    }
    if since.len() > ids.len() {
        return Err(Reject::InvalidParameter
            .because("Each since belongs to one secretId, by order; there are more than that."));
    }
    let selector = VersionSelector::parse(None, stage.as_deref())
        .map_err(|error| invalid("versionStage", error))?;
    let mut since = since.iter().map(|since| version(since));
    let secrets = ids.iter().map(|id| {
        let id = SecretId::parse(id).map_err(|error| invalid("secretId", error))?;
        let selector = selector.clone();
        Ok((
            SecretRef { id, selector },
            since.next().transpose()?.flatten(),
        ))
    });
    Ok(WatchOrder {
        secrets: secrets.collect::<Result<_, ApiError>>()?,
        wait: wait.map_or(Ok(DEFAULT_WAIT), |wait| seconds(&wait))?,
    })
}

/// Returns a version id; `None` for an empty text.
fn version(text: &str) -> Result<Option<Box<str>>, ApiError> {
    let selector =
        VersionSelector::parse(Some(text), None).map_err(|error| invalid("since", error))?;
    Ok(selector.version_id().map(Box::from))
}

fn seconds(text: &str) -> Result<Duration, ApiError> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|seconds| is_plain && (1..=MAX_WAIT).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| {
            Reject::InvalidParameter.because("The parameter wait takes 1 to 60 seconds.")
        })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Change<'a> {
    secret_id: &'a str,
    version_id: &'a str,
    changed: bool,
}

/// Returns the answer for a caller that knows the version `since`; `None` while it has to wait.
pub(crate) fn answer(
    secret: &SecretRef,
    since: Option<&str>,
    state: &WatchState,
) -> Option<FullResponse> {
    match state {
        WatchState::Version(version) if since != Some(version) => {
            Some(response::json(response::encode(&Change {
                secret_id: secret.id.as_str(),
                version_id: version,
                changed: true,
            })))
        }
        WatchState::Unavailable(_) if since.is_some() => None,
        WatchState::Refused(error) | WatchState::Unavailable(error) => {
            let error = ApiError::from(Arc::clone(error));
            Some(ResponseType::KMS.error(&error))
        }
        WatchState::Version(_) | WatchState::Pending => None,
    }
}

/// Returns the answer of a wait without a change.
pub(crate) fn unchanged() -> FullResponse {
    let mut response = response::json(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().remove(CONTENT_TYPE);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(query: &str) -> Vec<(String, Option<String>)> {
        let order = parse(query).unwrap();
        let text = |since: Box<str>| since.into_string();
        let pair = |(secret, since): (SecretRef, Option<Box<str>>)| {
            (secret.id.as_str().to_owned(), since.map(text))
        };
        order.secrets.into_iter().map(pair).collect()
    }

    #[test]
    fn secrets_and_versions_are_paired_by_order() {
        let some = |text: &str| Some(text.to_owned());
        let a_and_b = [("a".to_owned(), some("1")), ("b".to_owned(), some("2"))];
        for query in [
            "secretId=a&since=1&secretId=b&since=2",
            "since=1&since=2&secretId=a&secretId=b",
        ] {
            assert_eq!(pairs(query), a_and_b);
        }
        assert_eq!(
            pairs("secretId=a&secretId=app%2Fb&since=1"),
            [("a".to_owned(), some("1")), ("app/b".to_owned(), None)]
        );
        assert_eq!(pairs("secretId=a&since="), [("a".to_owned(), None)]);
        let order = parse("secretId=a&versionStage=AWSPREVIOUS&wait=7").unwrap();
        assert_eq!(order.secrets[0].0.selector.stage(), Some("ACSPrevious"));
        assert_eq!(order.wait, Duration::from_secs(7));
    }

    #[test]
    fn bad_parameters_are_refused_by_name() {
        let many = "secretId=a&".repeat(21);
        for (query, code) in [
            ("", "MissingParameter"),
            ("secretId=", "MissingParameter"),
            ("secretId=a&secretId", "MissingParameter"),
            (&*many, "InvalidParameter"),
            ("secretId=a&since=1&since=2", "InvalidParameter"),
            ("secretId=a&since=%00", "InvalidParameter"),
            ("secretId=a%0A", "InvalidParameter"),
            ("secretId=a&wait=1&wait=1", "InvalidParameter"),
            (
                "secretId=a&versionStage=b&versionStage=b",
                "InvalidParameter",
            ),
            ("secretId=a&wait=0", "InvalidParameter"),
            ("secretId=a&wait=61", "InvalidParameter"),
            ("secretId=a&wait=+1", "InvalidParameter"),
            ("secretId=a&wait=", "InvalidParameter"),
            ("secretId=a&wait=1.5", "InvalidParameter"),
            ("secretId=a&versionId=1", "InvalidParameter"),
            ("secretId=a&field=b", "InvalidParameter"),
        ] {
            assert_eq!(parse(query).unwrap_err().code, code, "{query}");
        }
        assert_eq!(parse(&"secretId=a&".repeat(20)).unwrap().secrets.len(), 20);
    }
}
