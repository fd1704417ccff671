//! Work that blocks, off the runtime's threads.

use tokio::task::spawn_blocking;

use super::panic::contained;

/// Reason why blocking work did not happen. The work may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockingError {
    /// The system makes no more threads, and none was there to take the work.
    #[error("no thread can be started at the moment")]
    NoThread,
    /// The work panicked. The panic hook has reported it.
    #[error("it panicked")]
    Panicked,
    /// The runtime is shutting down.
    #[error("the agent is stopping")]
    Stopping,
}

/// Runs `work` on a thread that may block. In contrast to `spawn_blocking` this never panics.
pub async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BlockingError> {
    // Tokio panics where the first thread of its pool cannot be made.
    let started = contained(|| spawn_blocking(work)).map_err(|_| BlockingError::NoThread)?;
    started.await.map_err(|error| {
        if error.is_panic() {
            BlockingError::Panicked
        } else {
            BlockingError::Stopping
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_is_an_error() {
        assert_eq!(run_blocking(|| 7).await, Ok(7));
        let failed = run_blocking(|| -> u8 { panic!("expected") }).await;
        assert_eq!(failed, Err(BlockingError::Panicked));
    }
}
