//! Every route of the agent in one table. The guard, the router, the text of 404 and the roots that a path prefix
//! may not overlap follow from it.

pub(crate) mod agent;
pub(crate) mod batch;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod router;
pub(crate) mod secret;
pub(crate) mod watch;

/// A route: where it is, who may use it, and how its errors are written.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) path: RoutePath,
    /// Methods that it answers, in the form of an `Allow` header.
    pub(crate) allow: &'static str,
    /// Whether a caller must show the token.
    pub(crate) needs_token: bool,
    pub(crate) errors: ErrorFormat,
    pub(crate) handler: RouteHandler,
}

/// Paths of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoutePath {
    /// This path, followed by a query such as the one shown.
    Exact(&'static str, &'static str),
    /// Every path below `Server.PathPrefix`.
    BelowPrefix,
}

/// Format of a route's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorFormat {
    /// Format that `Server.ResponseType` sets.
    Configured,
    /// Format of KMS.
    Kms,
}

/// Handler of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteHandler {
    SecretByQuery,
    SecretByPath,
    Watch,
    Batch,
    Status,
    Purge,
    Ping,
    Livez,
    Readyz,
    Metrics,
}

/// Every route.
#[rustfmt::skip]
pub(crate) const ROUTES: &[Route] = &[
    //    path                                              methods      token  errors                   handler
    route(AT_QUERY,                                         "GET",       true,  ErrorFormat::Configured, RouteHandler::SecretByQuery),
    route(RoutePath::BelowPrefix,                           "GET",       true,  ErrorFormat::Configured, RouteHandler::SecretByPath),
    route(RoutePath::Exact("/agent/watch", "?secretId=<id>"), "GET",     true,  ErrorFormat::Kms,        RouteHandler::Watch),
    route(RoutePath::Exact("/agent/batch", "?secretId=<id>"), "GET",     true,  ErrorFormat::Kms,        RouteHandler::Batch),
    route(RoutePath::Exact("/agent/status", ""),            "GET",       true,  ErrorFormat::Kms,        RouteHandler::Status),
    route(RoutePath::Exact("/agent/purge", ""),             "POST",      true,  ErrorFormat::Kms,        RouteHandler::Purge),
    route(RoutePath::Exact("/ping", ""),                    "GET, HEAD", false, ErrorFormat::Kms,        RouteHandler::Ping),
    route(RoutePath::Exact("/livez", ""),                   "GET, HEAD", false, ErrorFormat::Kms,        RouteHandler::Livez),
    route(RoutePath::Exact("/readyz", ""),                  "GET, HEAD", false, ErrorFormat::Kms,        RouteHandler::Readyz),
    route(RoutePath::Exact("/metrics", ""),                 "GET, HEAD", false, ErrorFormat::Kms,        RouteHandler::Metrics),
];

const AT_QUERY: RoutePath = RoutePath::Exact("/secretsmanager/get", "?secretId=<id>");

const fn route(
    path: RoutePath,
    allow: &'static str,
    needs_token: bool,
    errors: ErrorFormat,
    handler: RouteHandler,
) -> Route {
    Route {
        path,
        allow,
        needs_token,
        errors,
        handler,
    }
}

/// Returns the route of `path`, with paths below `prefix` reading secrets.
pub(crate) fn find(path: &str, prefix: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| match route.path {
        RoutePath::Exact(exact, _) => path == exact,
        RoutePath::BelowPrefix => path.starts_with(prefix),
    })
}

/// First segments of the fixed paths, with slashes around them.
pub(crate) fn fixed_roots() -> impl Iterator<Item = String> {
    ROUTES.iter().filter_map(|route| match route.path {
        RoutePath::Exact(path, _) => {
            let root = path.split('/').nth(1)?;
            Some(format!("/{root}/"))
        }
        RoutePath::BelowPrefix => None,
    })
}

/// Sentence that names every route.
pub(crate) fn all_routes(prefix: &str) -> String {
    let mut shown: Vec<String> = ROUTES
        .iter()
        .map(|route| match route.path {
            RoutePath::Exact(path, query) => format!("{path}{query}"),
            RoutePath::BelowPrefix => format!("{prefix}<id>"),
        })
        .collect();
    let last = shown.pop().unwrap_or_default();
    format!("There is {} and {last}.", shown.join(", "))
}
