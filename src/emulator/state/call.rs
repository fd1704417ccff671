//! What came in, for whoever wants to count it.

use std::collections::{HashMap, VecDeque};
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use crate::fault::FaultKind;
use crate::state::action::Action;
use crate::wire::instant;

/// How many calls are remembered one by one. Counters go on beyond that.
const REMEMBERED: usize = 100_000;

/// One request that arrived. Holds no value, token or secret of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// What was asked for.
    pub action: Action,
    /// The path, without the query.
    pub path: String,
    /// The `SecretName` as sent: a name or an ARN.
    pub secret: Option<String>,
    /// The `VersionId` as sent.
    pub version_id: Option<String>,
    /// The `VersionStage` as sent.
    pub version_stage: Option<String>,
    /// The id of the key the request claims to be signed with.
    pub access_key_id: Option<String>,
    /// The `User-Agent`.
    pub user_agent: Option<String>,
    /// The status answered; `None` while there is no answer, and for good where a fault gave none.
    pub status: Option<u16>,
    /// The `Code` of an error answer.
    pub code: Option<String>,
    /// The fault that was applied.
    pub fault: Option<FaultKind>,
    /// When it arrived, by the machine's clock.
    #[serde(serialize_with = "rfc3339")]
    pub at: SystemTime,
}

fn rfc3339<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&instant::text((*at).into()))
}

/// Names a remembered call, so that its outcome can be filled in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallTicket(u64);

/// All calls since the last reset.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// The number of the first call in `recent`. Never goes back, so that a ticket from before a reset
    /// names nothing.
    first: u64,
    recent: VecDeque<Call>,
    counts: HashMap<Action, u64>,
}

impl Calls {
    /// Remembers that a request arrived.
    pub(crate) fn begin(&mut self, call: Call) -> CallTicket {
        let count = self.counts.entry(call.action).or_default();
        *count = count.saturating_add(1);
        if self.recent.len() >= REMEMBERED {
            self.recent.pop_front();
            self.first += 1;
        }
        self.recent.push_back(call);
        CallTicket(self.first + self.recent.len() as u64 - 1)
    }

    /// Notes how a call was answered.
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

    /// The remembered calls, oldest first.
    pub(crate) fn list(&self) -> Vec<Call> {
        self.recent.iter().cloned().collect()
    }

    /// How many calls of one kind there were.
    pub(crate) fn count(&self, action: Action) -> u64 {
        self.counts.get(&action).copied().unwrap_or_default()
    }

    /// Forgets all calls.
    pub(crate) fn clear(&mut self) {
        self.first += self.recent.len() as u64;
        self.recent.clear();
        self.counts.clear();
    }
}
