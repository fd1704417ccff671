//! axum router of the table.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{MethodRouter, any, get, post};
use http::Method;

use super::{ROUTES, Route, RouteHandler, RoutePath, agent, all_routes, batch, health, metrics};
use crate::app::App;
use crate::error::Reject;
use crate::format::ResponseType;
use crate::response::FullResponse;

/// Returns the routes behind the guard. No handler uses an extractor that can respond by itself.
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        router = match route.path {
            RoutePath::Exact(path, _) => router.route(path, methods(route)),
            RoutePath::BelowPrefix => {
                let prefix = &app.settings.path_prefix;
                router
                    .route(prefix, methods(route))
                    .route(&format!("{prefix}{{*id}}"), methods(route))
            }
        };
    }
    router.fallback(unknown_path).with_state(app)
}

fn methods(route: &'static Route) -> MethodRouter<Arc<App>, Infallible> {
    let refuse = move |State(app): State<Arc<App>>, method: Method| async move {
        refuse_method(&app, route, &method)
    };
    let methods = match route.handler {
        // A GET of these does not reach the router: `serve` answers it.
        RouteHandler::SecretByQuery | RouteHandler::SecretByPath | RouteHandler::Watch => {
            return any(refuse);
        }
        RouteHandler::Batch => get(batch::batch),
        RouteHandler::Status => get(agent::status),
        RouteHandler::Purge => post(agent::purge),
        RouteHandler::Ping => get(health::ping),
        RouteHandler::Livez => get(health::livez),
        RouteHandler::Readyz => get(health::readyz),
        RouteHandler::Metrics => get(metrics::metrics),
    };
    let methods = if route.allow == "GET" {
        // Otherwise axum answers HEAD like GET.
        methods.head(refuse)
    } else {
        methods
    };
    methods.fallback(refuse)
}

fn refuse_method(app: &App, route: &Route, method: &Method) -> FullResponse {
    let format = app.settings.error_format(Some(route));
    if route.path == RoutePath::BelowPrefix
        && let Some(error) = format.refuse_method(method)
    {
        return format.error(&error);
    }
    not_allowed(format, route.allow)
}

fn not_allowed(format: ResponseType, allowed: &'static str) -> FullResponse {
    let methods = allowed.replace(", ", " or ");
    let mut error = Reject::MethodNotAllowed.because(format!("Use {methods}."));
    error.allow = Some(allowed);
    format.error(&error)
}

async fn unknown_path(State(app): State<Arc<App>>, method: Method) -> FullResponse {
    if method == Method::HEAD {
        return not_allowed(ResponseType::KMS, "GET");
    }
    let error = Reject::UnknownPath.because(all_routes(&app.settings.path_prefix));
    ResponseType::KMS.error(&error)
}
