//! Recorded calls.

use std::collections::{HashMap, VecDeque};
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use crate::fault::FaultKind;
use crate::state::action::Action;
use crate::wire::instant;

/// Most calls that are recorded in full. Counters continue beyond that.
const REMEMBERED: usize = 100_000;

/// A request that arrived. Holds no value, token or secret of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordedCall {
    /// Kind of the request.
    pub action: Action,
    /// Path, without the query.
    pub path: String,
    /// `SecretName` as sent: a name or an ARN.
    pub secret: Option<String>,
    /// `VersionId` as sent.
    pub version_id: Option<String>,
    /// `VersionStage` as sent.
    pub version_stage: Option<String>,
    /// Id of the key in the request's signature, unverified.
    pub access_key_id: Option<String>,
    /// `User-Agent`.
    pub user_agent: Option<String>,
    /// Status of the answer; `None` before the answer, and if a fault suppressed it.
    pub status: Option<u16>,
    /// `Code` of an error answer.
    pub code: Option<String>,
    /// Fault that was applied.
    pub fault: Option<FaultKind>,
    /// Time of arrival, by the machine's clock.
    #[serde(serialize_with = "rfc3339")]
    pub at: SystemTime,
}

fn rfc3339<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&instant::text((*at).into()))
}

/// Reference to a recorded call, to add its outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallTicket(u64);

/// All calls since the last reset.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Number of the first call in `recent`. It never decreases, so that a ticket from before a reset refers to no
    /// call.
    first: u64,
    recent: VecDeque<RecordedCall>,
    counts: HashMap<Action, u64>,
}

impl Calls {
    /// Records that a request arrived.
    pub(crate) fn begin(&mut self, call: RecordedCall) -> CallTicket {
        let count = self.counts.entry(call.action).or_default();
        *count = count.saturating_add(1);
        if self.recent.len() >= REMEMBERED {
            self.recent.pop_front();
            self.first += 1;
        }
        self.recent.push_back(call);
        CallTicket(self.first + self.recent.len() as u64 - 1)
    }

    /// Records the answer to a call.
    pub(crate) fn answered(&mut self, ticket: CallTicket, status: u16, code: Option<String>) {
        let index = ticket
            .0
            .checked_sub(self.first)
            .and_then(|index| usize::try_from(index).ok());
        if let Some(call) = index.and_then(|index| self.recent.get_mut(index)) {
            call.status = Some(status);
            call.code = code;
        }
    }

    /// Returns the recorded calls, oldest first.
    pub(crate) fn list(&self) -> Vec<RecordedCall> {
        self.recent.iter().cloned().collect()
    }

    /// Returns the number of calls of one kind.
    pub(crate) fn count(&self, action: Action) -> u64 {
        self.counts.get(&action).copied().unwrap_or_default()
    }

    /// Clears all calls.
    pub(crate) fn clear(&mut self) {
        self.first += self.recent.len() as u64;
        self.recent.clear();
        self.counts.clear();
    }
}
