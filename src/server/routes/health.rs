//! Routes for health probes.

use std::sync::Arc;

use crate::app::App;
use crate::monitor::Readiness;
use crate::response::{self, FullResponse};
use axum::extract::State;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

/// `/ping`
pub(crate) async fn ping() -> FullResponse {
    let mut response = Response::new(Full::from("healthy"));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// `/livez`: a process that answers is alive.
pub(crate) async fn livez() -> FullResponse {
    ping().await
}

/// `/readyz`: 503 only while the agent cannot answer any secret.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> FullResponse {
    let readiness = Readiness::probed(&app).await;
    let mut response = response::json(response::encode(&readiness));
    if !readiness.ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}
