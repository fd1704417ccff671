//! Work over all entries, done once at a time however many callers ask for it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// Callers that come while a run is under way share the next one, which begins after they came.
#[derive(Debug)]
pub(crate) struct SharedRun<T> {
    /// Number of callers so far.
    arrived: AtomicU64,
    last: Mutex<LastRun<T>>,
}

/// The last run.
#[derive(Debug)]
struct LastRun<T> {
    /// Number of callers when it began.
    covers: u64,
    outcome: Option<Arc<T>>,
}

impl<T> Default for SharedRun<T> {
    fn default() -> Self {
        Self {
            arrived: AtomicU64::new(0),
            last: Mutex::new(LastRun {
                covers: 0,
                outcome: None,
            }),
        }
    }
}

impl<T> SharedRun<T> {
    /// The outcome of a run that began after this call. A caller that leaves during its run leaves it to the
    /// next.
    pub(crate) async fn join<F: Future<Output = T>>(&self, run: impl FnOnce() -> F) -> Arc<T> {
        let number = self.arrived.fetch_add(1, Ordering::AcqRel) + 1;
        let mut last = self.last.lock().await;
        if let Some(outcome) = last.outcome.as_ref().filter(|_| last.covers >= number) {
            return Arc::clone(outcome);
        }
        let covers = self.arrived.load(Ordering::Acquire);
        let outcome = Arc::new(run().await);
        *last = LastRun {
            covers,
            outcome: Some(Arc::clone(&outcome)),
        };
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test]
    async fn callers_that_come_during_a_run_share_the_next_one() {
        let shared = Arc::new(SharedRun::default());
        let runs = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..50)
            .map(|_| {
                let (shared, runs) = (Arc::clone(&shared), Arc::clone(&runs));
                tokio::spawn(async move {
                    let run = || async {
                        for _ in 0..100 {
                            tokio::task::yield_now().await;
                        }
                        runs.fetch_add(1, Ordering::SeqCst)
                    };
                    *shared.join(run).await
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_later_caller_gets_a_run_of_its_own() {
        let shared = SharedRun::default();
        for expected in 0..3 {
            assert_eq!(*shared.join(|| async { expected }).await, expected);
        }
    }
}
