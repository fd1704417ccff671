//! Every route on one screen.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::handler::Handler;
use axum::routing::{MethodRouter, any, get, post};
use http::{Method, Uri};

use crate::App;
use crate::config::{ResponseType, SECRET_BY_QUERY};
use crate::error::Reject;
use crate::render;
use crate::render::Answered;
use crate::routes::{agent, health, metrics};

/// The routes behind the guard. None of them uses an extractor that can answer by itself.
pub(crate) fn router(app: Arc<App>) -> Router {
    let prefix = app.settings.path_prefix.clone();
    Router::new()
        // A GET of these three never gets here: see `secret::route`.
        .route(SECRET_BY_QUERY, any(use_get))
        .route(&prefix, any(use_get_to_read))
        .route(&format!("{prefix}{{*id}}"), any(use_get_to_read))
        .route("/agent/status", only_get(agent::status))
        .route("/agent/purge", only_post(agent::purge))
        .route("/ping", get_and_head(health::ping))
        .route("/livez", get_and_head(health::livez))
        .route("/readyz", get_and_head(health::readyz))
        .route("/metrics", get_and_head(metrics::metrics))
        .fallback(unknown_path)
        .with_state(app)
}

/// GET and nothing else; axum would answer HEAD too.
fn only_get<H, T>(handler: H) -> MethodRouter<Arc<App>, Infallible>
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    get(handler).head(use_get).fallback(use_get)
}

/// GET, and HEAD with the same answer less its body, for probes that send it.
fn get_and_head<H, T>(handler: H) -> MethodRouter<Arc<App>, Infallible>
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    get(handler).fallback(use_get_or_head)
}

/// POST and nothing else.
fn only_post<H, T>(handler: H) -> MethodRouter<Arc<App>, Infallible>
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    post(handler).fallback(use_post)
}

async fn use_get(State(app): State<Arc<App>>, uri: Uri) -> Answered {
    not_allowed(&app, &uri, "GET")
}

/// A Vault client that may not list goes on to read; to one that may not use the method it is an error.
async fn use_get_to_read(State(app): State<Arc<App>>, method: Method, uri: Uri) -> Answered {
    if app.settings.response_type == ResponseType::Vault && method.as_str() == "LIST" {
        let error =
            Reject::UnknownPath.because("Secrets cannot be listed; read them by name with GET.");
        return render::error(ResponseType::Vault, &error);
    }
    not_allowed(&app, &uri, "GET")
}

async fn use_get_or_head(State(app): State<Arc<App>>, uri: Uri) -> Answered {
    not_allowed(&app, &uri, "GET, HEAD")
}

async fn use_post(State(app): State<Arc<App>>, uri: Uri) -> Answered {
    not_allowed(&app, &uri, "POST")
}

fn not_allowed(app: &App, uri: &Uri, allowed: &'static str) -> Answered {
    let methods = allowed.replace(", ", " or ");
    let mut error = Reject::MethodNotAllowed.because(format!("Use {methods}."));
    error.allow = Some(allowed);
    render::error(app.settings.format_of(uri.path()), &error)
}

async fn unknown_path(State(app): State<Arc<App>>, method: Method, uri: Uri) -> Answered {
    if method == Method::HEAD {
        return not_allowed(&app, &uri, "GET");
    }
    let prefix = &app.settings.path_prefix;
    let error = Reject::UnknownPath.because(format!(
        "There is {SECRET_BY_QUERY}?secretId=<id>, {prefix}<id>, /agent/status, /agent/purge, /ping, /livez, /readyz and /metrics."
    ));
    render::error(ResponseType::Kms, &error)
}
