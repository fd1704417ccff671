//! Requests that Vault clients make before they read a secret. They are about the token and the engine, and KMS is not
//! called.

use kms_agent_core::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{ApiError, Reject};
use crate::format::AgentTimes;
use crate::response::{self, FullResponse};

/// Mount point of the only engine, KV version 2.
const MOUNT: &str = "secret/";

/// Answers the request for `path`; `None` if it names a secret.
pub(super) fn answer(path: &str, times: AgentTimes<'_>) -> Option<Result<FullResponse, ApiError>> {
    let data = match path {
        "auth/token/lookup-self" => token(times),
        "sys/health" => return Some(Ok(plain(&health(times)))),
        "sys/init" => return Some(Ok(plain(&json!({ "initialized": true })))),
        "sys/seal-status" => return Some(Ok(plain(&seal_status()))),
        "sys/internal/ui/mounts" | "sys/internal/ui/mounts/" => json!({
            "auth": {},
            "secret": { MOUNT: engine() },
        }),
        _ => match path.strip_prefix("sys/internal/ui/mounts/")? {
            place if place == MOUNT.trim_end_matches('/') || place.starts_with(MOUNT) => engine(),
            _ => {
                return Some(Err(Reject::UnknownPath.because(
                    "There is one secrets engine, KV version 2 at secret/; ask for secret/<name>.",
                )));
            }
        },
    };
    Some(Ok(plain(&VaultAnswer {
        data,
        ..VaultAnswer::default()
    })))
}

/// Frame of Vault's answers.
#[derive(Default, Serialize)]
struct VaultAnswer {
    request_id: &'static str,
    lease_id: &'static str,
    renewable: bool,
    lease_duration: u32,
    data: Value,
    wrap_info: (),
    warnings: (),
    auth: (),
}

fn plain(document: &impl Serialize) -> FullResponse {
    response::json(response::encode(document))
}

/// The agent's token, as Vault describes one that does not expire. The token itself is not repeated.
fn token(times: AgentTimes<'_>) -> Value {
    json!({
        "accessor": "",
        "creation_time": seconds(times.timeline.wall(times.started_at)),
        "creation_ttl": 0,
        "display_name": "token",
        "entity_id": "",
        "expire_time": null,
        "explicit_max_ttl": 0,
        "id": "",
        "meta": null,
        "num_uses": 0,
        "orphan": true,
        "path": "auth/token/create",
        "policies": ["default"],
        "renewable": false,
        "ttl": 0,
        "type": "service",
    })
}

fn health(times: AgentTimes<'_>) -> Value {
    json!({
        "initialized": true,
        "sealed": false,
        "standby": false,
        "performance_standby": false,
        "replication_performance_mode": "disabled",
        "replication_dr_mode": "disabled",
        "server_time_utc": seconds(times.timeline.clock().wall()),
        "version": env!("CARGO_PKG_VERSION"),
        "cluster_name": "alibabacloud-kms-agent",
        "cluster_id": "",
    })
}

fn seal_status() -> Value {
    json!({
        "type": "shamir",
        "initialized": true,
        "sealed": false,
        "t": 1,
        "n": 1,
        "progress": 0,
        "nonce": "",
        "version": env!("CARGO_PKG_VERSION"),
        "migration": false,
        "cluster_name": "alibabacloud-kms-agent",
        "cluster_id": "",
        "recovery_seal": false,
        "storage_type": "kms",
    })
}

fn engine() -> Value {
    json!({
        "accessor": "",
        "config": {},
        "description": "Secrets of Alibaba Cloud KMS",
        "external_entropy_access": false,
        "local": false,
        "options": { "version": "2" },
        "path": MOUNT,
        "seal_wrap": false,
        "type": "kv",
        "uuid": "",
    })
}

fn seconds(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(1000)
}
