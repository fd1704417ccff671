//! Requests for changes: long polling, through outages and restarts of the agent.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use kms_agent_core::Backoff;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::complaint::Complaints;
use crate::cli::target::{AgentTarget, encoded};
use crate::client::Reply;
use crate::exit::Failure;

/// Time that the agent waits for a change.
const WAIT: Duration = Duration::from_secs(55);

/// Pauses while the agent does not answer, or refuses.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// Shortest time between two requests without a change; an agent that stops answers at once.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// Result of one request.
enum Outcome {
    Changed(Change),
    Unchanged,
    /// The agent or KMS refuses one of the secrets.
    Refused(Failure),
    Unreachable(Failure),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    secret_id: String,
    version_id: String,
}

/// Follows secrets, each with its version, in one request at a time.
pub(super) fn start(
    target: AgentTarget,
    versions: Vec<(String, String)>,
    changed: mpsc::UnboundedSender<String>,
    complaints: Arc<Complaints>,
) {
    tokio::spawn(follow(target, versions, changed, complaints));
}

async fn follow(
    target: AgentTarget,
    mut versions: Vec<(String, String)>,
    changed: mpsc::UnboundedSender<String>,
    complaints: Arc<Complaints>,
) {
    let mut failures = 0;
    let mut complaint = None;
    loop {
        let began = Instant::now();
        let failure = match ask(&target, &versions).await {
            Outcome::Changed(change) => {
                let known = versions.iter_mut().find(|(id, _)| *id == change.secret_id);
                if let Some((id, version)) = known
                    && *version != change.version_id
                {
                    *version = change.version_id;
                    complaints.withdraw(complaint.take());
                    failures = 0;
                    if changed.send(id.clone()).is_err() {
                        return;
                    }
                    continue;
                }
                Failure::failed("the agent reports a change that is not one")
            }
            Outcome::Unchanged => {
                complaints.withdraw(complaint.take());
                failures = 0;
                sleep(LEAST_PAUSE.saturating_sub(began.elapsed())).await;
                continue;
            }
            // One secret must not hide the changes of others.
            Outcome::Refused(_) if versions.len() > 1 => {
                let rest = versions.split_off(versions.len() / 2);
                start(
                    target.clone(),
                    rest,
                    changed.clone(),
                    Arc::clone(&complaints),
                );
                continue;
            }
            Outcome::Refused(failure) => {
                let id = versions.first().map_or("", |(id, _)| id.as_str());
                failure.about(id)
            }
            Outcome::Unreachable(failure) => failure,
        };
        let text = format!("changes cannot be followed: {}", failure.message());
        complaints.replace(&mut complaint, text);
        sleep(BACKOFF.pause(failures)).await;
        failures = failures.saturating_add(1);
    }
}

async fn ask(target: &AgentTarget, versions: &[(String, String)]) -> Outcome {
    // The token may have been replaced since the last request.
    let client = match target.client() {
        Ok(client) => client,
        Err(failure) => return Outcome::Unreachable(failure),
    };
    let mut query = format!("/agent/watch?wait={}", WAIT.as_secs());
    for (id, version) in versions {
        query.extend(["&secretId=", &encoded(id), "&since=", &encoded(version)]);
    }
    match client.wait_for(&query, WAIT).await {
        Ok(reply) => outcome(target, &reply),
        Err(failure) => Outcome::Unreachable(failure),
    }
}

fn outcome(target: &AgentTarget, reply: &Reply) -> Outcome {
    match reply.status {
        StatusCode::OK => match serde_json::from_slice(&reply.body) {
            Ok(change) => Outcome::Changed(change),
            Err(_) => Outcome::Unreachable(Failure::failed(
                "the agent's response to a watch cannot be read",
            )),
        },
        StatusCode::NO_CONTENT => Outcome::Unchanged,
        status => {
            let failure = target.refusal(reply);
            let is_about_caller = reply
                .error()
                .is_some_and(|(code, _)| code == "InvalidToken");
            let is_about_secret = status.is_client_error()
                && status != StatusCode::TOO_MANY_REQUESTS
                && !is_about_caller;
            if is_about_secret {
                Outcome::Refused(failure)
            } else {
                Outcome::Unreachable(failure)
            }
        }
    }
}
