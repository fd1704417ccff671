//! The two routes that read a secret.

use http::header::ACCEPT;
use http::request::Parts;
use http::{HeaderMap, Method};
use kms_agent_core::secret::SecretArn;

use crate::App;
use crate::access::{self, Record};
use crate::config::{KMS_MEDIA_TYPE, ResponseType};
use crate::error::{ApiError, Reject};
use crate::query::{self, Question};
use crate::render::Answered;
use crate::routes::{Endpoint, Route, vault};
use crate::{cache_status, render};

/// Form of the request for a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestForm {
    /// `/secretsmanager/get?secretId=…`
    Query,
    /// `<PathPrefix><secretId>`
    Path,
}

/// Returns the form of a request that reads a secret; `None` for any other request.
pub(crate) fn form_of(route: Option<&Route>, method: &Method) -> Option<RequestForm> {
    if *method != Method::GET {
        return None;
    }
    match route?.endpoint {
        Endpoint::SecretByQuery => Some(RequestForm::Query),
        Endpoint::SecretByPath => Some(RequestForm::Path),
        _ => None,
    }
}

/// Answers a request for a secret.
pub(crate) async fn answer(app: &App, form: RequestForm, request: Parts) -> Answered {
    let Parts { uri, headers, .. } = request;
    let query = uri.query().unwrap_or_default();
    let id = || {
        let prefix = &app.settings.path_prefix;
        uri.path().strip_prefix(prefix).unwrap_or_default()
    };
    let question = match (form, app.settings.response_type) {
        (RequestForm::Query, _) => query::parse_query(query),
        (RequestForm::Path, ResponseType::Vault) => {
            if let Some(answer) = vault::preflight(app, id()) {
                return answer.unwrap_or_else(|error| render::error(ResponseType::Vault, &error));
            }
            query::parse_vault_path(id(), query)
        }
        (RequestForm::Path, ResponseType::Kms | ResponseType::Aws) => {
            query::parse_path(id(), query)
        }
    };
    respond(app, question, headers).await
}

/// The form of the answer: the operator's choice, unless the caller asks for that of KMS.
fn format(app: &App, headers: &HeaderMap) -> ResponseType {
    match headers.get(ACCEPT) {
        Some(accept) if accept == KMS_MEDIA_TYPE => ResponseType::Kms,
        _ => app.settings.response_type,
    }
}

async fn respond(app: &App, question: Result<Question, ApiError>, headers: HeaderMap) -> Answered {
    let format = format(app, &headers);
    let mut record = None;
    let answered = match question {
        Ok(question) => {
            record = access::is_logged().then(|| Record {
                secret: question.secret.id.as_str().to_owned(),
                version: question.secret.selector.to_string(),
                cache: "-".to_owned(),
            });
            read(app, &question, format, headers, record.as_mut()).await
        }
        Err(error) => Err(error),
    };
    let mut response = answered.unwrap_or_else(|error| render::error(format, &error));
    if let Some(record) = record {
        response.extensions_mut().insert(record);
    }
    response
}

async fn read(
    app: &App,
    question: &Question,
    format: ResponseType,
    headers: HeaderMap,
    record: Option<&mut Record>,
) -> Result<Answered, ApiError> {
    let id = &question.secret.id;
    // Needed for what names a region or must be told one.
    let region = match (id.arn(), format) {
        (None, ResponseType::Kms | ResponseType::Vault) => None,
        _ => app.service.region(),
    };
    check_region(id.arn(), region.as_deref())?;
    let answer = app.service.read(&question.secret, question.demand).await?;
    if let Some(record) = record {
        record.cache = cache_status::text(&answer.status);
    }
    let question = render::Question {
        id,
        region: region.as_deref(),
    };
    render::answer(format, question, answer, headers)
}

/// An ARN names a region; the agent asks one region only.
fn check_region(arn: Option<SecretArn<'_>>, region: Option<&str>) -> Result<(), ApiError> {
    match (arn, region) {
        (Some(arn), Some(region)) if !arn.region.is_empty() && arn.region != region => {
            Err(Reject::InvalidParameter.because(format!(
                "The ARN is of another region than the agent's, which is {region}."
            )))
        }
        _ => Ok(()),
    }
}
