//! Fault rules.

pub(crate) mod apply;

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use crate::state::action::Action;
use crate::wire::refusal::InvalidOrder;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The right answer, late.
    Latency,
    /// An error answer: `status` (500), `code`, `message`.
    Status,
    /// The connection ends without an answer.
    Cut,
    /// The connection ends in the middle of the right answer's body.
    CutMidBody,
    /// No answer, for as long as the emulator runs and the client waits.
    Hang,
    /// A complete HTTP answer whose body is none of the service's.
    Garbage,
    /// The service asks for fewer calls.
    Throttle,
    /// A redirect to another path of this emulator, or to the `location` among `headers`.
    Redirect,
    /// The right answer followed by 2 MiB of white space, without an announced length.
    Oversize,
    /// The right answer's head at once, then its body in 16 pieces with `latency_ms` (100) before each.
    SlowBody,
    /// The right answer with `members` put in place of its own, so that it answers another question.
    Altered,
    /// The right answer, and one answer too many on the same connection: the next request on it is answered
    /// with `body`, the one after that with the answer to the request before it, and so on.
    Surplus,
}

/// Which requests a fault is for. Everything left out matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultMatch {
    /// The name of a secret; requests by its ARN match too.
    pub secret: Option<String>,
    /// What is asked for.
    pub action: Option<Action>,
}

/// A rule: which requests, and what goes wrong with them. The first rule that matches a request is applied.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which requests.
    #[serde(default, rename = "match")]
    pub matching: FaultMatch,
    /// What goes wrong.
    pub kind: FaultKind,
    /// The status answered, where the kind makes its own answer.
    pub status: Option<u16>,
    /// The `Code` answered, where the kind makes an error answer.
    pub code: Option<String>,
    /// The `Message` answered, where the kind makes an error answer.
    pub message: Option<String>,
    /// The body answered, where the kind makes its own answer.
    pub body: Option<String>,
    /// How long to wait before anything else, in milliseconds.
    pub latency_ms: Option<u64>,
    /// How many requests it is for; `None` until it is removed.
    pub times: Option<u32>,
    /// Headers set on whatever is answered.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Members set in an altered answer.
    #[serde(default)]
    pub members: serde_json::Map<String, serde_json::Value>,
}

impl Fault {
    /// A fault for all requests, until it is removed.
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

    /// Every request is answered, but this late.
    pub fn latency(latency: Duration) -> Self {
        Self::new(FaultKind::Latency).after(latency)
    }

    /// Every request is answered with this status and code.
    pub fn status(status: u16, code: impl Into<String>) -> Self {
        let mut fault = Self::new(FaultKind::Status);
        fault.status = Some(status);
        fault.code = Some(code.into());
        fault
    }

    /// Every answer has this member in place of its own.
    pub fn altered(member: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        let mut fault = Self::new(FaultKind::Altered);
        fault.members.insert(member.into(), value.into());
        fault
    }

    /// Only for requests of this kind.
    #[must_use]
    pub fn on(mut self, action: Action) -> Self {
        self.matching.action = Some(action);
        self
    }

    /// Only for requests about the secret of this name.
    #[must_use]
    pub fn on_secret(mut self, name: impl Into<String>) -> Self {
        self.matching.secret = Some(name.into());
        self
    }

    /// Only for so many requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Waits before anything else.
    #[must_use]
    pub fn after(mut self, latency: Duration) -> Self {
        self.latency_ms = Some(u64::try_from(latency.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Sets a header on whatever is answered.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Answers this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The wait before each piece of a slow body, or before anything else.
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

/// The rules in force, in the order they were made.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// Adds a rule behind the others.
    pub(crate) fn add(&mut self, fault: Fault) -> Result<(), InvalidOrder> {
        fault.check()?;
        self.0.push(fault);
        Ok(())
    }

    /// Removes all rules.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault for a request, counted down.
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
