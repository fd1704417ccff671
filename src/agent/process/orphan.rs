//! Orphans: processes that lost their parent become children of process 1, which a container's agent often is.

use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};

/// Takes note of every child that ended, so that the system can forget it, for as long as this is polled. Only process
/// 1 is given children that it did not start.
pub(crate) async fn reap() {
    if std::process::id() != 1 {
        return;
    }
    let mut ended = match signal(SignalKind::child()) {
        Ok(ended) => ended,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "Processes that ended cannot be cleared away; start the container with an init process"
            );
            return;
        }
    };
    loop {
        // One signal may stand for several, also from before anybody listened.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if ended.recv().await.is_none() {
            return;
        }
    }
}
