//! What `/readyz` and the gauges of `/metrics` show: the state of each check.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::app::App;

/// How long a probe waits for KMS. Health probes commonly give up after a second.
const PATIENCE: Duration = Duration::from_millis(500);

/// Every check, by the names of the JSON and of the metric.
pub(super) const CHECKS: [&str; 6] = [
    "token",
    "credentials",
    "upstream",
    "cache",
    "prefetch",
    "tasks",
];

#[derive(Serialize)]
pub(crate) struct Readiness {
    pub(crate) ready: bool,
    checks: Checks,
}

#[derive(Serialize)]
struct Checks {
    token: PlainCheck,
    credentials: PlainCheck,
    upstream: PlainCheck,
    cache: PlainCheck,
    prefetch: PrefetchCheck,
    tasks: PlainCheck,
}

#[derive(Serialize)]
struct PlainCheck {
    state: Level,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
}

#[derive(Serialize)]
struct PrefetchCheck {
    state: Level,
    total: usize,
    done: usize,
    failed: usize,
}

/// State of a check. As a number it is the value of the gauge.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Ok = 0,
    Degraded = 1,
    Failed = 2,
}

impl PlainCheck {
    fn is(state: Level) -> Self {
        Self { state, code: None }
    }

    fn ok_unless(trouble: bool, otherwise: Level) -> Self {
        Self::is(if trouble { otherwise } else { Level::Ok })
    }
}

impl Readiness {
    /// Takes all checks. Where nobody has asked KMS yet and there is nothing else to serve, KMS is probed, so that an
    /// agent without readers becomes ready.
    pub(crate) async fn probed(app: &Arc<App>) -> Self {
        let first_pass_is_over = app.prefetch.counts().first_pass_is_over();
        if first_pass_is_over && !app.service.reaches_kms() && !app.service.holds_servable().await {
            app.service.probe(PATIENCE).await;
        }
        Self::take(app).await
    }

    /// Takes all checks, asking nobody.
    pub(crate) async fn take(app: &App) -> Self {
        let stats = app.service.backend_stats().await;
        let upstream = app.service.upstream();
        let credentials = app.service.credentials();
        let reaches_kms = app.service.reaches_kms();
        let store_trouble = stats.map_or(true, |stats| {
            stats.store.is_some_and(|store| store.trouble.is_some())
        });
        let prefetch = app.prefetch.counts();
        let able = reaches_kms || app.service.holds_servable().await;
        let in_the_way = if able { Level::Degraded } else { Level::Failed };
        let is_unknown = !credentials.usable || upstream.identity_refused;
        let checks = Checks {
            token: PlainCheck::ok_unless(app.token.is_stuck(), Level::Degraded),
            credentials: if is_unknown {
                PlainCheck::is(in_the_way)
            } else {
                PlainCheck::ok_unless(credentials.renewal_fails, Level::Degraded)
            },
            upstream: PlainCheck {
                state: match upstream.failing {
                    _ if !able && !upstream.reached => Level::Failed,
                    Some(_) => Level::Degraded,
                    None => Level::Ok,
                },
                code: upstream.failing,
            },
            cache: PlainCheck::ok_unless(store_trouble, Level::Degraded),
            prefetch: PrefetchCheck {
                state: match prefetch {
                    counts if !counts.first_pass_is_over() => Level::Failed,
                    counts if counts.failed > 0 => Level::Degraded,
                    _ => Level::Ok,
                },
                total: prefetch.total,
                done: prefetch.done,
                failed: prefetch.failed,
            },
            tasks: PlainCheck::ok_unless(app.tasks.are_failing(), Level::Degraded),
        };
        Self {
            ready: able && prefetch.first_pass_is_over(),
            checks,
        }
    }

    /// The state of each of [`CHECKS`], in their order.
    pub(crate) fn levels(&self) -> [Level; CHECKS.len()] {
        let checks = &self.checks;
        [
            checks.token.state,
            checks.credentials.state,
            checks.upstream.state,
            checks.cache.state,
            checks.prefetch.state,
            checks.tasks.state,
        ]
    }
}
