//! Fault rules.

pub(crate) mod apply;

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use crate::state::action::Action;
use crate::wire::refusal::InvalidOrder;

/// Kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The correct answer, delayed.
    Latency,
    /// An error answer: `status` (500), `code`, `message`.
    Status,
    /// The connection ends without an answer.
    Cut,
    /// The connection ends in the middle of the correct answer's body.
    CutMidBody,
    /// No answer, while the emulator runs and the client waits.
    Hang,
    /// A complete HTTP answer with a foreign body.
    Garbage,
    /// The service asks for fewer calls.
    Throttle,
    /// A redirect to another path of this emulator, or to the `location` among `headers`.
    Redirect,
    /// The correct answer followed by 2 MiB of white space, without an announced length.
    Oversize,
    /// The correct answer's head at once, then its body in 16 pieces with `latency_ms` (100) before each.
    SlowBody,
    /// The correct answer with some members replaced by `members`, as if for another request.
    Altered,
    /// The correct answer, followed by a surplus answer on the same connection. The next request gets `body`, and
    /// each later request the answer to the one before it.
    Surplus,
}

/// Filter of requests. A field that is left out matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultMatch {
    /// Name of a secret; requests by its ARN match too.
    pub secret: Option<String>,
    /// Requested API.
    pub action: Option<Action>,
}

/// A rule: a filter and a fault. The first rule that matches a request is applied.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Filter of requests.
    #[serde(default, rename = "match")]
    pub matching: FaultMatch,
    /// Fault.
    pub kind: FaultKind,
    /// Status, for kinds with their own answer.
    pub status: Option<u16>,
    /// `Code`, for kinds with an error answer.
    pub code: Option<String>,
    /// `Message`, for kinds with an error answer.
    pub message: Option<String>,
    /// Body, for kinds with their own answer.
    pub body: Option<String>,
    /// Delay before everything else, in milliseconds.
    pub latency_ms: Option<u64>,
    /// Number of requests that it applies to; `None` until it is removed.
    pub times: Option<u32>,
    /// Headers set on the answer.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Members replaced in an altered answer.
    #[serde(default)]
    pub members: serde_json::Map<String, serde_json::Value>,
}

impl Fault {
    /// Creates a fault for all requests, until it is removed.
    pub fn new(kind: FaultKind) -> Self {
        Self {
            matching: FaultMatch::default(),
            kind,
            status: None,
            code: None,
            message: None,
            body: None,
            latency_ms: None,
            times: None,
            headers: BTreeMap::new(),
            members: serde_json::Map::new(),
        }
    }

    /// Creates a fault that delays every answer by this long.
    pub fn latency(latency: Duration) -> Self {
        Self::new(FaultKind::Latency).after(latency)
    }

    /// Creates a fault that answers every request with this status and code.
    pub fn status(status: u16, code: impl Into<String>) -> Self {
        let mut fault = Self::new(FaultKind::Status);
        fault.status = Some(status);
        fault.code = Some(code.into());
        fault
    }

    /// Creates a fault that replaces this member in every answer.
    pub fn altered(member: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        let mut fault = Self::new(FaultKind::Altered);
        fault.members.insert(member.into(), value.into());
        fault
    }

    /// Restricts it to requests of this kind.
    #[must_use]
    pub fn on(mut self, action: Action) -> Self {
        self.matching.action = Some(action);
        self
    }

    /// Restricts it to requests for the secret of this name.
    #[must_use]
    pub fn on_secret(mut self, name: impl Into<String>) -> Self {
        self.matching.secret = Some(name.into());
        self
    }

    /// Restricts it to so many requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Adds a delay before everything else.
    #[must_use]
    pub fn after(mut self, latency: Duration) -> Self {
        self.latency_ms = Some(u64::try_from(latency.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Sets a header on the answer.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Sets the body of the answer.
    #[must_use]
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Returns the delay before each piece of a slow body, or before everything else.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.latency_ms.map(Duration::from_millis)
    }

    fn check(&self) -> Result<(), InvalidOrder> {
        if let Some(status) = self.status
            && (!(200..=599).contains(&status) || StatusCode::from_u16(status).is_err())
        {
            return Err(InvalidOrder::new("status must be 200 to 599"));
        }
        if self.kind == FaultKind::Latency && self.latency_ms.is_none() {
            return Err(InvalidOrder::new("latency needs latency_ms"));
        }
        if self.times == Some(0) {
            return Err(InvalidOrder::new("times must be at least 1"));
        }
        for (name, value) in &self.headers {
            let valid = HeaderName::from_bytes(name.as_bytes()).is_ok()
                && HeaderValue::from_str(value).is_ok();
            if !valid {
                return Err(InvalidOrder::new(
                    "headers holds a name or value HTTP forbids",
                ));
            }
        }
        Ok(())
    }

    fn matches(&self, action: Action, secret: Option<&str>) -> bool {
        let FaultMatch {
            secret: wanted,
            action: kind,
        } = &self.matching;
        kind.is_none_or(|kind| kind == action)
            && wanted.as_deref().is_none_or(|name| secret == Some(name))
    }
}

/// Rules in force, in the order of their creation.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// Adds a rule after the others.
    pub(crate) fn add(&mut self, fault: Fault) -> Result<(), InvalidOrder> {
        fault.check()?;
        self.0.push(fault);
        Ok(())
    }

    /// Removes all rules.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the fault for a request, and counts it down.
    pub(crate) fn take(&mut self, action: Action, secret: Option<&str>) -> Option<Fault> {
        let index = self
            .0
            .iter()
            .position(|fault| fault.matches(action, secret))?;
        let fault = self.0.get_mut(index)?;
        let taken = fault.clone();
        if let Some(times) = &mut fault.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.0.remove(index);
            }
        }
        Some(taken)
    }
}
