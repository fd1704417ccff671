//! `GET /agent/batch`: several secrets in one response.

use std::sync::Arc;

use axum::extract::State;
use http::{HeaderMap, Uri};
use kms_agent_cache::{Answer, CacheStatus};
use kms_agent_core::{SecretId, SecretRef, VersionSelector};
use serde::Serialize;
use serde_json::value::RawValue;

use super::secret::check_region;
use crate::app::App;
use crate::caller::Caller;
use crate::error::{ApiError, Reject};
use crate::format::ResponseType;
use crate::log::access::{self, Record};
use crate::member;
use crate::query::invalid;
use crate::query::parameters::{decode, shown};
use crate::response::{self, FullResponse};

/// Number of secrets that one request may read.
const MAX_SECRETS: usize = 20;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BatchBody<'a> {
    secrets: Vec<&'a RawValue>,
    errors: Vec<BatchError<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BatchError<'a> {
    secret_id: &'a str,
    code: String,
    message: String,
}

/// Reads several secrets. One that cannot be answered is an entry of `Errors`.
pub(crate) async fn batch(State(app): State<Arc<App>>, caller: Caller, uri: Uri) -> FullResponse {
    let secrets = match order(&app, uri.query().unwrap_or_default()) {
        Ok(secrets) => secrets,
        Err(error) => return ResponseType::KMS.error(&error),
    };
    let mut response = read(&app, &caller, &secrets).await;
    if access::is_logged() {
        let ids: Vec<&str> = secrets.iter().map(|secret| secret.id.as_str()).collect();
        response.extensions_mut().insert(Record {
            secret: ids.join(","),
            version: VersionSelector::CURRENT.to_string(),
            cache: "-".to_owned(),
        });
    }
    response
}

fn order(app: &App, query: &str) -> Result<Vec<SecretRef>, ApiError> {
    let secrets = parse(query)?;
    let region = app.service.region();
    for secret in &secrets {
        check_region(secret.id.arn(), region.as_deref())?;
    }
    Ok(secrets)
}

/// Reads `?secretId=…&secretId=…`. A secret that is named twice is returned once.
fn parse(query: &str) -> Result<Vec<SecretRef>, ApiError> {
    let mut ids = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name, "The name of a parameter")?;
        if name != "secretId" {
            return Err(Reject::InvalidParameter.because(format!(
                "Unknown parameter {}; there is only secretId.",
                shown(&name)
            )));
        }
        ids.push(decode(
            value,
            format_args!("The parameter {}", shown(&name)),
        )?);
    }
    if ids.is_empty() || ids.iter().any(|id| id.is_empty()) {
        return Err(Reject::MissingParameter
            .because("Name the secrets: ?secretId=<name or ARN>&secretId=<name or ARN>."));
    }
    if ids.len() > MAX_SECRETS {
        return Err(Reject::InvalidParameter.because("One request reads at most 20 secrets."));
    }
    let mut secrets: Vec<SecretRef> = Vec::with_capacity(ids.len());
    for id in &ids {
        let id = SecretId::parse(id).map_err(|error| invalid("secretId", error))?;
        if secrets.iter().all(|secret| secret.id != id) {
            let selector = VersionSelector::CURRENT;
            secrets.push(SecretRef { id, selector });
        }
    }
    Ok(secrets)
}

async fn read(app: &App, caller: &Caller, secrets: &[SecretRef]) -> FullResponse {
    let decisions = secrets.iter().map(|it| app.access.decide(caller, it));
    let decisions: Vec<_> = decisions.collect();
    let allowed: Vec<_> = decisions.iter().copied().flatten().collect();
    let mut answers = app.read_all(&allowed).await.into_iter();
    let results: Vec<Result<Answer, ApiError>> = decisions
        .iter()
        .filter_map(|decision| match decision {
            Ok(_) => answers.next().map(|answer| Ok(answer?)),
            Err(denied) => Some(Err((*denied).into())),
        })
        .collect();
    respond(secrets, &results)
}

fn respond(secrets: &[SecretRef], results: &[Result<Answer, ApiError>]) -> FullResponse {
    let mut body = BatchBody {
        secrets: Vec::with_capacity(results.len()),
        errors: Vec::new(),
    };
    for (secret, result) in secrets.iter().zip(results) {
        let value = result.as_ref().map_err(Clone::clone).and_then(object);
        match value {
            Ok(value) => body.secrets.push(value),
            Err(ApiError { code, message, .. }) => body.errors.push(BatchError {
                secret_id: secret.id.as_str(),
                code,
                message,
            }),
        }
    }
    let bytes = response::encode(&body);
    match results.iter().flatten().max_by_key(|answer| age(answer)) {
        Some(oldest) => response::secret(
            HeaderMap::with_capacity(8),
            (bytes, response::JSON),
            oldest.age,
            &oldest.status,
        ),
        None => response::json(bytes),
    }
}

/// Returns the response of KMS as it stands.
fn object(answer: &Answer) -> Result<&RawValue, ApiError> {
    str::from_utf8(answer.secret.answer.expose())
        .ok()
        .and_then(member::parse)
        .ok_or_else(|| {
            Reject::InvalidUpstreamAnswer.because("KMS returned something else than JSON.")
        })
}

/// Order of age: an expired entry is older than a fresh one.
fn age(answer: &Answer) -> (Option<std::time::Duration>, std::time::Duration) {
    let expired = match &answer.status {
        CacheStatus::Stale { since, .. } => Some(*since),
        _ => None,
    };
    (expired, answer.age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_once_in_their_order() {
        let secrets = parse("secretId=b&&secretId=app%2Fdb&secretId=app/db&secretId=b").unwrap();
        let ids: Vec<&str> = secrets.iter().map(|secret| secret.id.as_str()).collect();
        assert_eq!(ids, ["b", "app/db"]);
    }

    #[test]
    fn bad_parameters_are_refused_by_name() {
        let many = "secretId=a&".repeat(21);
        for (query, code) in [
            ("", "MissingParameter"),
            ("secretId=", "MissingParameter"),
            ("secretId=a&secretId", "MissingParameter"),
            (&*many, "InvalidParameter"),
            ("secretId=a%0A", "InvalidParameter"),
            ("secretId=%FF", "InvalidParameter"),
            ("secretId=a&versionStage=b", "InvalidParameter"),
            ("secretId=a&secretid=b", "InvalidParameter"),
        ] {
            assert_eq!(parse(query).unwrap_err().code, code, "{query}");
        }
        let twenty: Vec<String> = (0..20).map(|index| format!("secretId={index}")).collect();
        assert_eq!(parse(&twenty.join("&")).unwrap().len(), 20);
    }
}
