//! Orphans: processes that lost their parent become children of process 1, which a container's agent often is.

/// Reaps every child that has ended, for as long as this is polled. Only process 1 has children that it did not start.
#[cfg(unix)]
pub(crate) async fn reap() {
    use rustix::process::{WaitOptions, wait};
    use tokio::signal::unix::{SignalKind, signal};

    if std::process::id() != 1 {
        return;
    }
    let mut ended = match signal(SignalKind::child()) {
        Ok(ended) => ended,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "Orphans cannot be reaped; start the container with an init process"
            );
            return;
        }
    };
    loop {
        // One signal may stand for several children, and some may have ended before the handler was installed.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if ended.recv().await.is_none() {
            return;
        }
    }
}

/// Returns at once: only Unix passes orphans to another parent.
#[cfg(not(unix))]
pub(crate) async fn reap() {
    std::future::ready(()).await;
}
