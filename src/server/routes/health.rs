//! What probes ask.

use std::sync::Arc;

use axum::extract::State;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

use crate::App;
use crate::render;
use crate::render::Answered;

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

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    checks: Checks,
}

#[derive(Serialize)]
struct Checks {
    token: Check,
    credentials: Check,
    upstream: Check,
    cache: Check,
    prefetch: Prefetch,
}

#[derive(Serialize)]
struct Check {
    state: Level,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
}

#[derive(Serialize)]
struct Prefetch {
    state: Level,
    total: usize,
    done: usize,
    failed: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Degraded,
    Failed,
}

impl Check {
    fn is(state: Level) -> Self {
        Self { state, code: None }
    }

    fn ok_unless(trouble: bool, otherwise: Level) -> Self {
        Self::is(if trouble { otherwise } else { Level::Ok })
    }
}

/// `/readyz`: 503 only while the agent cannot answer any secret.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Answered {
    let stats = app.service.backend_stats().await;
    let upstream = app.service.upstream();
    let credentials = app.service.credentials();
    let entries = stats.as_ref().map_or(0, |stats| stats.entries);
    let store_trouble = stats.map_or(true, |stats| {
        stats.store.is_some_and(|store| store.trouble.is_some())
    });
    let prefetch = app.prefetch.counts();
    let able = credentials.usable || entries > 0;
    let ready = able && prefetch.first_pass_is_over();
    let checks = Checks {
        token: Check::ok_unless(app.token.is_stuck(), Level::Degraded),
        credentials: Check::ok_unless(
            !credentials.usable || credentials.renewal_fails,
            if able { Level::Degraded } else { Level::Failed },
        ),
        upstream: Check {
            state: if upstream.failing.is_some() {
                Level::Degraded
            } else {
                Level::Ok
            },
            code: upstream.failing,
        },
        cache: Check::ok_unless(store_trouble, Level::Degraded),
        prefetch: Prefetch {
            state: match prefetch {
                counts if !counts.first_pass_is_over() => Level::Failed,
                counts if counts.failed > 0 => Level::Degraded,
                _ => Level::Ok,
            },
            total: prefetch.total,
            done: prefetch.done,
            failed: prefetch.failed,
        },
    };
    let mut response = render::json(render::encode(&Readiness { ready, checks }));
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}
