//! `/agent/status`

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use kms_agent_cache::policy::Freshness;
use kms_agent_cache::prefetch::PrefetchState;
use kms_agent_core::Timestamp;
use kms_agent_core::backend::{ScanItem, StoreStats};
use serde::Serialize;

use crate::app::{App, FileStatus};
use crate::caller::Caller;
use crate::response::{self, FullResponse};

#[derive(Serialize)]
struct AgentStatus {
    version: &'static str,
    pid: u32,
    started_at: Option<String>,
    cache: CacheStatus,
    upstream: UpstreamStatus,
    credentials: CredentialStatus,
    prefetch: Vec<PrefetchStatus>,
    files: Vec<FileStatus>,
    entries: Vec<EntryStatus>,
    truncated: bool,
    /// Refusals by client, for an admin where clients are configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<BTreeMap<String, u64>>,
}

#[derive(Serialize)]
struct CacheStatus {
    backend: &'static str,
    entries: usize,
    capacity: usize,
    store: Option<StoreStatus>,
}

#[derive(Serialize)]
struct StoreStatus {
    path: String,
    bytes: Option<u64>,
    state: &'static str,
    committed_at: Option<String>,
}

#[derive(Serialize)]
struct UpstreamStatus {
    state: &'static str,
    last_success_at: Option<String>,
    last_error: Option<String>,
}

#[derive(Serialize)]
struct CredentialStatus {
    provider: Option<String>,
    expires_at: Option<String>,
}

#[derive(Serialize)]
struct PrefetchStatus {
    name: String,
    state: &'static str,
    error: Option<String>,
}

#[derive(Serialize)]
struct EntryStatus {
    name: String,
    selector: String,
    version_id: String,
    state: &'static str,
    age_seconds: u64,
    ttl_seconds: i64,
    usable_seconds: u64,
    hits: u64,
}

/// Entries and state of the agent, without values. A caller that is not an admin sees its own secrets only.
pub(crate) async fn status(State(app): State<Arc<App>>, caller: Caller) -> FullResponse {
    let service = &app.service;
    let stats = service.backend_stats().await.unwrap_or_default();
    let listing = service.listing().await;
    let shown: Vec<&ScanItem> = listing
        .items
        .iter()
        .filter(|item| caller.sees(&item.key.secret.id))
        .collect();
    let now = service.timeline().now();
    let upstream = service.upstream();
    let credentials = service.credentials();
    let wall = |at| service.timeline().wall(at).to_rfc3339();
    response::json(response::encode(&AgentStatus {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        started_at: wall(app.started_at),
        cache: CacheStatus {
            backend: service.backend_info().name,
            entries: if caller.is_admin() {
                stats.entries
            } else {
                shown.len()
            },
            capacity: stats.capacity,
            store: stats.store.map(StoreStatus::from),
        },
        upstream: UpstreamStatus {
            state: if upstream.failing.is_some() {
                "degraded"
            } else {
                "ok"
            },
            last_success_at: upstream.last_success_at.and_then(wall),
            last_error: upstream.failing,
        },
        credentials: CredentialStatus {
            provider: credentials.provider.map(Into::into),
            expires_at: credentials.expires_at.and_then(Timestamp::to_rfc3339),
        },
        prefetch: app
            .prefetch
            .list()
            .into_iter()
            .filter(|(secret, _)| caller.sees(&secret.id))
            .map(|(secret, state)| PrefetchStatus::new(secret.id.as_str(), state))
            .collect(),
        files: files(&app, &caller),
        entries: entries(&app, &shown, now),
        truncated: listing.truncated,
        refused: caller.is_admin().then(|| app.access.refusals()).flatten(),
    }))
}

/// Returns the files whose secrets `caller` may read. A file of which no secret is known yet is for an admin.
fn files(app: &App, caller: &Caller) -> Vec<FileStatus> {
    let is_shown = |file: &FileStatus| {
        let is_known = !file.secrets.is_empty();
        caller.is_admin() || (is_known && file.secrets.iter().all(|id| caller.sees(id)))
    };
    app.files.list().into_iter().filter(is_shown).collect()
}

/// Returns the entries by name, with their state at `now`.
fn entries(app: &App, items: &[&ScanItem], now: Timestamp) -> Vec<EntryStatus> {
    let policy = app.service.policy();
    items
        .iter()
        .map(|item| {
            let policy = policy.of(&item.key.secret.id);
            let freshness = app.service.judge(policy, &item.lifetime, now);
            EntryStatus::new(item, freshness, now)
        })
        .collect()
}

impl EntryStatus {
    fn new(item: &ScanItem, freshness: Freshness, now: Timestamp) -> Self {
        let seconds =
            |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let (state, ttl_seconds) = match freshness {
            Freshness::Fresh { left } => ("fresh", seconds(left)),
            Freshness::Expired { since } => ("expired", -seconds(since)),
            Freshness::Dead => ("dead", 0),
        };
        Self {
            name: item.key.secret.id.as_str().to_owned(),
            selector: item.key.secret.selector.to_string(),
            version_id: item.version_id.to_string(),
            state,
            age_seconds: now.since(item.lifetime.fetched_at).as_secs(),
            ttl_seconds,
            usable_seconds: item.lifetime.usable_until.since(now).as_secs(),
            hits: item.hits,
        }
    }
}

impl PrefetchStatus {
    fn new(name: &str, state: PrefetchState) -> Self {
        let (state, error) = match state {
            PrefetchState::Pending => ("pending", None),
            PrefetchState::Done => ("done", None),
            PrefetchState::Failed { code } => ("failed", Some(code)),
        };
        Self {
            name: name.to_owned(),
            state,
            error,
        }
    }
}

impl From<StoreStats> for StoreStatus {
    fn from(store: StoreStats) -> Self {
        Self {
            path: store.path.display().to_string(),
            bytes: store.bytes,
            state: store.trouble.unwrap_or("ok"),
            committed_at: store.committed_at.and_then(Timestamp::to_rfc3339),
        }
    }
}
