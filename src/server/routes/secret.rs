//! The two routes that read a secret.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use http::{Response, Uri};
use kms_agent_core::secret::SecretArn;

use crate::App;
use crate::access::{self, Record};
use crate::config::ResponseType;
use crate::error::{ApiError, Reject};
use crate::query::{self, Question};
use crate::{cache_status, render};

/// `/secretsmanager/get?secretId=…`
pub(crate) async fn by_query(State(app): State<Arc<App>>, uri: Uri) -> Response<Body> {
    respond(&app, query::parse_query(uri.query().unwrap_or_default())).await
}

/// `<PathPrefix><secretId>`
pub(crate) async fn by_path(State(app): State<Arc<App>>, uri: Uri) -> Response<Body> {
    // The router let nothing else through.
    let id = uri
        .path()
        .strip_prefix(&app.settings.path_prefix)
        .unwrap_or_default();
    let query = uri.query().unwrap_or_default();
    respond(
        &app,
        match app.settings.response_type {
            ResponseType::Vault => query::parse_vault_path(id, query),
            ResponseType::Kms | ResponseType::Aws => query::parse_path(id, query),
        },
    )
    .await
}

async fn respond(app: &App, question: Result<Question, ApiError>) -> Response<Body> {
    let mut record = None;
    let answered = match question {
        Ok(question) => {
            record = access::is_logged().then(|| Record {
                secret: question.secret.id.as_str().to_owned(),
                version: question.secret.selector.to_string(),
                cache: "-".to_owned(),
            });
            read(app, &question, record.as_mut()).await
        }
        Err(error) => Err(error),
    };
    let mut response =
        answered.unwrap_or_else(|error| render::error(app.settings.response_type, &error));
    if let Some(record) = record {
        response.extensions_mut().insert(record);
    }
    response
}

async fn read(
    app: &App,
    question: &Question,
    record: Option<&mut Record>,
) -> Result<Response<Body>, ApiError> {
    let id = &question.secret.id;
    let format = app.settings.response_type;
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
    render::answer(format, question, answer)
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
