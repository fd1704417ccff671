//! Routes that read a secret.

use http::request::Parts;
use http::{HeaderMap, Method};
use kms_agent_core::secret::SecretArn;

use crate::app::App;
use crate::caller::Caller;
use crate::error::{ApiError, Reject};
use crate::format::{AgentTimes, RequestedSecret, ResponseType};
use crate::log::access::{self, Record};
use crate::query::{self, SecretQuery};
use crate::response::{FullResponse, cache_status};
use crate::routes::{Route, RouteHandler};

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
    match route?.handler {
        RouteHandler::SecretByQuery => Some(RequestForm::Query),
        RouteHandler::SecretByPath => Some(RequestForm::Path),
        _ => None,
    }
}

/// Answers a request for a secret.
pub(crate) async fn answer(
    app: &App,
    form: RequestForm,
    request: Parts,
    caller: &Caller,
) -> FullResponse {
    let Parts { uri, headers, .. } = request;
    let query = uri.query().unwrap_or_default();
    let configured = app.settings.response_type;
    let query = match form {
        RequestForm::Query => query::parse_query(query),
        RequestForm::Path => {
            let prefix = &app.settings.path_prefix;
            let path = uri.path().strip_prefix(prefix).unwrap_or_default();
            let times = AgentTimes {
                timeline: app.service.timeline(),
                started_at: app.started_at,
            };
            if let Some(answer) = configured.preflight(path, times) {
                return answer.unwrap_or_else(|error| configured.error(&error));
            }
            configured.parse_path(path, query)
        }
    };
    respond(app, query, configured.negotiate(&headers), headers, caller).await
}

async fn respond(
    app: &App,
    query: Result<SecretQuery, ApiError>,
    format: ResponseType,
    headers: HeaderMap,
    caller: &Caller,
) -> FullResponse {
    let mut record = None;
    let answered = match query {
        Ok(query) => {
            record = access::is_logged().then(|| Record {
                secret: query.secret.id.as_str().to_owned(),
                version: query.secret.selector.to_string(),
                cache: "-".to_owned(),
            });
            read(app, &query, format, headers, caller, record.as_mut()).await
        }
        Err(error) => Err(error),
    };
    let mut response = answered.unwrap_or_else(|error| format.error(&error));
    if let Some(record) = record {
        response.extensions_mut().insert(record);
    }
    response
}

async fn read(
    app: &App,
    query: &SecretQuery,
    format: ResponseType,
    headers: HeaderMap,
    caller: &Caller,
    record: Option<&mut Record>,
) -> Result<FullResponse, ApiError> {
    let id = &query.secret.id;
    let needs_region = id.arn().is_some() || format.shows_region();
    let region = needs_region.then(|| app.service.region()).flatten();
    let region = region.as_deref();
    check_region(id.arn(), region)?;
    let allowed = app.access.decide(caller, &query.secret)?;
    let answer = app.read(allowed, query.demand).await?;
    if let Some(record) = record {
        record.cache = cache_status::text(&answer.status);
    }
    let requested = RequestedSecret { id, region };
    format.secret(requested, &query.part, answer, headers)
}

/// Refuses an ARN of another region: the agent reads from one region only.
pub(crate) fn check_region(
    arn: Option<SecretArn<'_>>,
    region: Option<&str>,
) -> Result<(), ApiError> {
    match (arn, region) {
        (Some(arn), Some(region)) if !arn.region.is_empty() && arn.region != region => {
            Err(Reject::InvalidParameter.because(format!(
                "The ARN is of another region than the agent's, which is {region}."
            )))
        }
        _ => Ok(()),
    }
}
