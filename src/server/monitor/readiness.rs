//! State of each check, for `/readyz` and the gauges of `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::app::App;

/// Time that a probe waits for KMS. Health probes commonly give up after a second.
const PROBE_LIMIT: Duration = Duration::from_millis(500);

/// Names of the checks in JSON and in the metric.
pub(super) const CHECKS: [&str; 7] = [
    "token",
    "credentials",
    "upstream",
    "cache",
    "prefetch",
    "files",
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
    files: FilesCheck,
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

#[derive(Serialize)]
struct FilesCheck {
    state: Level,
    total: usize,
    written: usize,
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

    fn ok_unless(fails: bool, otherwise: Level) -> Self {
        Self::is(if fails { otherwise } else { Level::Ok })
    }
}

impl Readiness {
    /// Runs all checks. If KMS was not called yet and there is nothing to serve, KMS is probed, so that an agent without
    /// callers becomes ready.
    pub(crate) async fn probed(app: &Arc<App>) -> Self {
        let first_pass_is_over = app.prefetch.counts().first_pass_is_over();
        if first_pass_is_over && !app.service.reaches_kms() && !app.service.holds_servable().await {
            app.service.probe(PROBE_LIMIT).await;
        }
        Self::take(app).await
    }

    /// Runs all checks without calling KMS.
    pub(crate) async fn take(app: &App) -> Self {
        let stats = app.service.backend_stats().await;
        let upstream = app.service.upstream();
        let credentials = app.service.credentials();
        let reaches_kms = app.service.reaches_kms();
        let store_fails = stats.map_or(true, |stats| {
            stats.store.is_some_and(|store| store.trouble.is_some())
        });
        let prefetch = app.prefetch.counts();
        let files = app.files.counts();
        let able = reaches_kms || app.service.holds_servable().await;
        let severity = if able { Level::Degraded } else { Level::Failed };
        let is_unusable = !credentials.usable || upstream.identity_refused;
        let checks = Checks {
            token: PlainCheck::ok_unless(app.access.is_stuck(), Level::Degraded),
            credentials: if is_unusable {
                PlainCheck::is(severity)
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
            cache: PlainCheck::ok_unless(store_fails, Level::Degraded),
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
            files: FilesCheck {
                state: match files {
                    counts if !counts.first_pass_is_over => Level::Failed,
                    counts if counts.failed > 0 => Level::Degraded,
                    _ => Level::Ok,
                },
                total: files.total,
                written: files.written,
                failed: files.failed,
            },
            tasks: PlainCheck::ok_unless(app.tasks.are_failing(), Level::Degraded),
        };
        Self {
            ready: able && prefetch.first_pass_is_over() && files.first_pass_is_over,
            checks,
        }
    }

    /// Returns the state of each of [`CHECKS`], in their order.
    pub(crate) fn levels(&self) -> [Level; CHECKS.len()] {
        let checks = &self.checks;
        [
            checks.token.state,
            checks.credentials.state,
            checks.upstream.state,
            checks.cache.state,
            checks.prefetch.state,
            checks.files.state,
            checks.tasks.state,
        ]
    }
}
