//! What probes ask.

use std::sync::Arc;

use crate::App;
use crate::readiness::Readiness;
use crate::render;
use crate::render::Answered;
use axum::extract::State;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

/// `/ping`
pub(crate) async fn ping() -> Answered {
    let mut response = Response::new(Full::from("healthy"));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// `/livez`: whoever answers is alive.
pub(crate) async fn livez() -> Answered {
    ping().await
}

/// `/readyz`: 503 only while the agent cannot answer any secret.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Answered {
    let readiness = Readiness::probed(&app).await;
    let mut response = render::json(render::encode(&readiness));
    if !readiness.ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}
