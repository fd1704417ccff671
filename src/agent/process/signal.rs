//! The signals that end the agent, and the one that has it read its config again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGHUP, listened for from now on instead of ending the process.
pub(crate) fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// SIGTERM and SIGINT, listened for from the moment this exists.
#[derive(Debug)]
pub(crate) struct Endings {
    terminate: Signal,
    interrupt: Signal,
}

impl Endings {
    /// Begins to listen.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Calls `stop` at the first signal; returns at the second, which means: at once.
    pub(crate) async fn watch(mut self, stop: impl FnOnce()) {
        self.next().await;
        tracing::info!("Stopping: finishing what is in flight");
        stop();
        self.next().await;
    }

    /// Waits for the next one of either.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
