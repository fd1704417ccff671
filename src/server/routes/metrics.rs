//! What Prometheus scrapes.

use std::sync::Arc;

use axum::extract::State;
use http::{HeaderValue, Response, header};
use http_body_util::Full;
use prometheus_client::encoding::text::encode;

use crate::App;
use crate::readiness::Readiness;
use crate::render::Answered;

const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// `/metrics`
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Answered {
    if let Ok(stats) = app.service.backend_stats().await {
        app.metrics.set_cache(&stats);
    }
    app.metrics.set_checks(&Readiness::take(&app).await);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode(&mut text, &app.registry);
    let mut response = Response::new(Full::from(text));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, OPENMETRICS);
    response
}
