//! GetSecretValue of KMS.

use http::StatusCode;
use serde::Serialize;

use crate::sign;
use crate::state::Services;
use crate::state::secret::{DataType, Reading, SecretType, Secrets, Wanted, is_name};
use crate::wire::answer::ServiceAnswer;
use crate::wire::inbound::Inbound;
use crate::wire::instant;
use crate::wire::refusal::ServiceRefusal;

/// Answers a request for a secret's value.
pub(crate) fn secret_value(
    shared: &Services,
    request: &Inbound,
    request_id: &str,
) -> Result<ServiceAnswer, ServiceRefusal> {
    let mut state = shared.state();
    sign::verify(request, &mut state)?;
    let asked = Asked {
        name: request.given("SecretName"),
        wanted: Wanted {
            version_id: request.given("VersionId"),
            stage: request.given("VersionStage"),
        },
    };
    let found = find(shared, asked, &state.secrets);
    if is_true(request.parameter("DryRun")) {
        return Err(dry_run(found.err()));
    }
    let (name, reading) = found?;
    let extended = is_true(request.parameter("FetchExtendedConfig"));
    let body = SecretValue::new(name, &reading, extended, request_id);
    Ok(ServiceAnswer::json(StatusCode::OK, &body))
}

/// Returns the name in a name or an ARN, and the region of the ARN.
pub(crate) fn secret_name(asked: &str) -> (Option<&str>, &str) {
    let mut parts = asked.splitn(5, ':');
    match (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next().and_then(|part| part.strip_prefix("secret/")),
    ) {
        (Some("acs"), Some("kms"), Some(region), Some(_account), Some(name)) => {
            (Some(region), name)
        }
        _ => (None, asked),
    }
}

/// Secret and version that a request names.
pub(crate) struct Asked<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) wanted: Wanted<'a>,
}

/// Returns the bare name and the version.
pub(crate) fn find<'a>(
    shared: &Services,
    asked: Asked<'a>,
    secrets: &'a Secrets,
) -> Result<(&'a str, Reading<'a>), ServiceRefusal> {
    let name = asked
        .name
        .filter(|name| !name.is_empty())
        .ok_or_else(|| missing("SecretName"))?;
    let (region, name) = secret_name(name);
    if !is_name(name) {
        return Err(invalid("SecretName"));
    }
    if region.is_some_and(|region| region != shared.region) {
        return Err(ServiceRefusal::not_found());
    }
    Ok((name, secrets.read(name, asked.wanted)?))
}

/// Returns the refusal of a missing parameter.
pub(crate) fn missing(parameter: &str) -> ServiceRefusal {
    let message = format!("The parameter {parameter} is required.");
    ServiceRefusal::kms(400, "MissingParameter", message)
}

/// Returns the refusal of a wrong parameter.
pub(crate) fn invalid(parameter: &str) -> ServiceRefusal {
    let message = format!("The specified parameter {parameter} is not valid.");
    ServiceRefusal::kms(400, "InvalidParameter", message)
}

pub(crate) fn is_true(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

/// Returns the error of a dry run, which reports the result of the real call.
fn dry_run(refusal: Option<ServiceRefusal>) -> ServiceRefusal {
    match refusal {
        None => ServiceRefusal::kms(
            400,
            "DryRunOperationError",
            "The request would have succeeded, but the DryRun parameter is set.",
        ),
        Some(refusal) if refusal.status == 403 => ServiceRefusal::kms(
            403,
            "AccessDeniedError",
            "The caller is not permitted to make this request.",
        ),
        Some(_) => ServiceRefusal::kms(400, "ValidationError", "The request is not valid."),
    }
}

/// Returns the body of the answer.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SecretValue<'a> {
    secret_name: &'a str,
    secret_type: SecretType,
    secret_data: &'a str,
    secret_data_type: DataType,
    version_id: &'a str,
    version_stages: Stages<'a>,
    create_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    automatic_rotation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_interval: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_rotation_date: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_rotation_date: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extended_config: Option<&'a str>,
    request_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Stages<'a> {
    version_stage: Vec<&'a str>,
}

impl<'a> SecretValue<'a> {
    pub(crate) fn new(
        name: &'a str,
        reading: &Reading<'a>,
        extended: bool,
        request_id: &'a str,
    ) -> Self {
        let Reading {
            secret_type,
            rotation,
            version,
        } = *reading;
        let extended_config = rotation.extended_config.as_deref();
        Self {
            secret_name: name,
            secret_type,
            secret_data: &version.data,
            secret_data_type: version.data_type,
            version_id: &version.id,
            version_stages: Stages {
                version_stage: version.stages.iter().map(String::as_str).collect(),
            },
            create_time: instant::text(version.created_at),
            automatic_rotation: rotation.automatic.as_deref(),
            rotation_interval: rotation.interval.as_deref(),
            last_rotation_date: rotation.last_at.as_deref(),
            next_rotation_date: rotation.next_at.as_deref(),
            extended_config: extended_config.filter(|_| extended && secret_type.is_managed()),
            request_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_names_region_and_secret() {
        assert_eq!(
            secret_name("acs:kms:cn-hangzhou:1:secret/app/db"),
            (Some("cn-hangzhou"), "app/db")
        );
        assert_eq!(secret_name("app/db"), (None, "app/db"));
        assert_eq!(secret_name("acs:kms:x:1:key/a").0, None);
    }
}
