//! Background tasks that are restarted when they panic.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use kms_agent_core::backoff::Backoff;
use kms_agent_core::clock::Clock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_mins(1));

/// A task that has run for this long since its last failure counts as well again.
const RECOVERY: Duration = Duration::from_mins(1);

/// The background tasks of the process: restarts them, with back-off, and knows which of them failed lately.
pub struct Tasks {
    clock: Arc<dyn Clock>,
    restarts: Family<TaskLabels, Counter>,
    /// Last failure of each task, in boot time.
    failures: Mutex<BTreeMap<&'static str, Duration>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    task: &'static str,
}

impl Tasks {
    /// Registers `task_restarts{task}` under the registry's prefix.
    pub fn register(registry: &mut Registry, clock: Arc<dyn Clock>) -> Arc<Self> {
        let restarts = Family::default();
        registry.register(
            "task_restarts",
            "Background tasks that panicked and were started again",
            restarts.clone(),
        );
        Arc::new(Self {
            clock,
            restarts,
            failures: Mutex::default(),
        })
    }

    /// Runs the task that `start` makes until it returns, and starts it again whenever it panics. Dropping this
    /// future ends the task. State that outlives a panic belongs to `start`.
    pub async fn keep<F>(self: Arc<Self>, name: &'static str, start: impl Fn() -> F)
    where
        F: Future<Output = ()>,
    {
        // Series that exist from the start can be alerted on.
        let restarts = self
            .restarts
            .get_or_create(&TaskLabels { task: name })
            .clone();
        let mut failures_in_row = 0_u32;
        loop {
            let began_at = self.clock.boot();
            if run(start()).await.is_ok() {
                return;
            }
            let failed_at = self.clock.boot();
            if failed_at >= began_at + RECOVERY {
                failures_in_row = 0;
            }
            self.lock().insert(name, failed_at);
            restarts.inc();
            let pause = BACKOFF.pause(failures_in_row);
            if failures_in_row == 0 {
                tracing::error!(task = name, "A background task failed; restarting it");
            } else {
                tracing::debug!(
                    task = name,
                    failures = failures_in_row + 1,
                    "A background task failed again; restarting it"
                );
            }
            failures_in_row = failures_in_row.saturating_add(1);
            self.clock.sleep_until(failed_at + pause).await;
        }
    }

    /// Whether a task waits for its restart, or was restarted within the last minute.
    pub fn are_failing(&self) -> bool {
        let now = self.clock.boot();
        self.lock().values().any(|at| now < *at + RECOVERY)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Duration>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("failures", &*self.lock())
            .finish_non_exhaustive()
    }
}

/// Runs `task` in place, so that it has ended when its keeper has. The panic hook reports a panic.
async fn run(task: impl Future<Output = ()>) -> Result<(), Panicked> {
    let mut task = pin!(task);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context)));
        polled.map_or(Poll::Ready(Err(Panicked)), |poll| poll.map(Ok))
    })
    .await
}

struct Panicked;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::SystemClock;

    fn tasks() -> (Arc<Tasks>, Registry) {
        let mut registry = Registry::default();
        let tasks = Tasks::register(&mut registry, Arc::new(SystemClock));
        (tasks, registry)
    }

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[tokio::test]
    async fn a_task_that_panics_is_started_again_until_it_returns() {
        let (tasks, registry) = tasks();
        let starts = Arc::new(AtomicU32::new(0));
        let run = {
            let starts = Arc::clone(&starts);
            move || {
                let starts = Arc::clone(&starts);
                async move {
                    assert!(starts.fetch_add(1, Ordering::Relaxed) > 0, "the first one");
                }
            }
        };
        assert!(!tasks.are_failing());
        Arc::clone(&tasks).keep("example", run).await;
        assert_eq!(starts.load(Ordering::Relaxed), 2);
        assert!(tasks.are_failing());
        let text = text(&registry);
        assert!(
            text.contains("task_restarts_total{task=\"example\"} 1"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_task_that_ends_is_not_started_again() {
        let (tasks, registry) = tasks();
        Arc::clone(&tasks).keep("example", || async {}).await;
        assert!(!tasks.are_failing());
        let text = text(&registry);
        assert!(
            text.contains("task_restarts_total{task=\"example\"} 0"),
            "{text}"
        );
    }
}
