//! The two routes that read a secret.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use http::{Response, Uri};
use kms_agent_core::secret::SecretArn;

use crate::App;
use crate::access::{self, Record};
use crate::error::{ApiError, Reject};
use crate::query::{Question, parse_path, parse_query};
use crate::{cache_status, render};

/// `/secretsmanager/get?secretId=…`
pub(crate) async fn by_query(State(app): State<Arc<App>>, uri: Uri) -> Response<Body> {
    respond(&app, parse_query(uri.query().unwrap_or_default())).await
}

/// `<PathPrefix><secretId>`
pub(crate) async fn by_path(State(app): State<Arc<App>>, uri: Uri) -> Response<Body> {
    // The router let nothing else through.
    let id = uri
        .path()
        .strip_prefix(&app.settings.path_prefix)
        .unwrap_or_default();
    respond(&app, parse_path(id, uri.query().unwrap_or_default())).await
}

async fn respond(app: &App, question: Result<Question, ApiError>) -> Response<Body> {
    match question {
        Ok(question) => {
            let record = access::is_logged().then(|| Record {
                secret: question.secret.id.as_str().to_owned(),
                version: question.secret.selector.to_string(),
                cache: "-".to_owned(),
            });
            read(app, &question, record).await
        }
        Err(error) => render::error(&error),
    }
}

async fn read(app: &App, question: &Question, mut record: Option<Record>) -> Response<Body> {
    let result = match check_region(app, question.secret.id.arn()) {
        Ok(()) => app
            .service
            .read(&question.secret, question.demand)
            .await
            .map_err(ApiError::from),
        Err(error) => Err(error),
    };
    let mut response = match result {
        Ok(answer) => {
            if let Some(record) = &mut record {
                record.cache = cache_status::text(&answer.status);
            }
            render::answer(answer)
        }
        Err(error) => render::error(&error),
    };
    if let Some(record) = record {
        response.extensions_mut().insert(record);
    }
    response
}

/// An ARN names a region; the agent asks one region only.
fn check_region(app: &App, arn: Option<SecretArn<'_>>) -> Result<(), ApiError> {
    match (arn, app.service.region()) {
        (Some(arn), Some(region)) if !arn.region.is_empty() && *arn.region != *region => {
            Err(Reject::InvalidParameter.because(format!(
                "The ARN is of another region than the agent's, which is {region}."
            )))
        }
        _ => Ok(()),
    }
}
