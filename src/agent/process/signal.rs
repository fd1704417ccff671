//! Signals that stop the agent, and one that does not.

use crate::platform::Endings;

/// Calls `stop` at the first signal, and returns at the second, which stops the agent at once.
pub(crate) async fn watch(mut endings: Endings, stop: impl FnOnce()) {
    endings.next().await;
    tracing::info!("Stopping; finishing requests in flight");
    stop();
    endings.next().await;
}

/// Turns a write past `RLIMIT_FSIZE` into an error (`EFBIG`) instead of the signal that ends the process. A program
/// that replaces this one has the default action again.
#[cfg(unix)]
pub(crate) fn outlive_file_limit() {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    // A handler is enough; no code reads the flag. A failure leaves the default action in place.
    let _ = signal_hook::flag::register(
        rustix::process::Signal::XFSZ.as_raw(),
        Arc::new(AtomicBool::new(false)),
    );
}

/// Systems without file size limits.
#[cfg(not(unix))]
pub(crate) fn outlive_file_limit() {}
