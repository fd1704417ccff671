//! Doubles of the ports, for the unit tests. They fail loudly.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use kms_agent_core::Timestamp;
pub(crate) use kms_agent_test_support::ManualClock;
use zeroize::Zeroizing;

use crate::http::{HttpError, HttpRequest, HttpResponse, HttpSend, Method};

/// Wall time at the start of a test: 2026-01-02T03:04:05Z.
pub(crate) const WALL: Timestamp = Timestamp::from_millis(1_767_323_045_000);

/// Creates a clock that shows [`WALL`].
pub(crate) fn manual_clock() -> Arc<ManualClock> {
    let clock = ManualClock::default();
    clock.set_wall(WALL);
    Arc::new(clock)
}

/// Lets every task that can run do so.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

pub(crate) type ScriptedOutcome = Result<HttpResponse, HttpError>;

/// An answer with a body.
#[expect(
    clippy::unnecessary_wraps,
    reason = "it is one of two outcomes of a script"
)]
pub(crate) fn answer(status: u16, body: &str) -> ScriptedOutcome {
    Ok(HttpResponse {
        status,
        headers: Vec::new(),
        body: Zeroizing::new(body.as_bytes().to_vec()),
    })
}

/// The same with a header more.
pub(crate) fn with_header(outcome: ScriptedOutcome, name: &str, value: &str) -> ScriptedOutcome {
    outcome.map(|mut response| {
        response.headers.push((name.to_owned(), value.to_owned()));
        response
    })
}

/// A server that knows what it will be asked, in which order, and panics when it is asked anything else.
#[derive(Default)]
pub(crate) struct Script {
    steps: Mutex<VecDeque<ScriptedStep>>,
    sent: Mutex<Vec<HttpRequest>>,
}

struct ScriptedStep {
    method: Method,
    /// Beginning of the URL.
    url: String,
    /// `None` never answers.
    outcome: Option<ScriptedOutcome>,
}

impl Script {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn expect(
        self: Arc<Self>,
        method: Method,
        url: &str,
        outcome: ScriptedOutcome,
    ) -> Arc<Self> {
        self.step(method, url, Some(outcome))
    }

    /// A request that is never answered.
    pub(crate) fn expect_in_vain(self: Arc<Self>, method: Method, url: &str) -> Arc<Self> {
        self.step(method, url, None)
    }

    fn step(
        self: Arc<Self>,
        method: Method,
        url: &str,
        outcome: Option<ScriptedOutcome>,
    ) -> Arc<Self> {
        lock(&self.steps).push_back(ScriptedStep {
            method,
            url: url.to_owned(),
            outcome,
        });
        self
    }

    /// Number of requests so far.
    pub(crate) fn calls(&self) -> usize {
        lock(&self.sent).len()
    }

    pub(crate) fn sent_body(&self, index: usize) -> String {
        self.sent(index, |request| {
            String::from_utf8(request.body.to_vec()).expect("text")
        })
    }

    pub(crate) fn sent_header(&self, index: usize, name: &str) -> Option<String> {
        self.sent(index, |request| {
            request
                .headers
                .iter()
                .find(|(given, _)| *given == name)
                .map(|(_, value)| value.to_string())
        })
    }

    fn sent<T>(&self, index: usize, read: impl FnOnce(&HttpRequest) -> T) -> T {
        read(lock(&self.sent).get(index).expect("so many requests"))
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

#[async_trait]
impl HttpSend for Script {
    async fn prepare(&self) -> Result<bool, HttpError> {
        Ok(true)
    }

    fn distrust_connections(&self) {}

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let step = lock(&self.steps).pop_front();
        let step = step.unwrap_or_else(|| panic!("nobody expected {request:?}"));
        assert_eq!(request.method, step.method, "{request:?}");
        assert!(
            request.url.starts_with(&step.url),
            "{} was expected to begin with {}",
            request.url,
            step.url
        );
        lock(&self.sent).push(request);
        match step.outcome {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let left = lock(&self.steps).len();
            assert_eq!(left, 0, "requests that were expected did not come");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
