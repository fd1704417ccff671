//! Messages to the service manager, as `sd_notify` defines them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use sd_notify::NotifyState;
use tokio::time::{interval, timeout};

use super::notify_socket::NotifySocket;
use crate::client::Client;

/// Connection to the service manager, if there is one.
#[derive(Debug)]
pub(crate) struct Supervisor {
    /// Opened at startup, so that a shortage of descriptors does not prevent messages.
    socket: Option<NotifySocket>,
    /// Interval in which it expects a watchdog message.
    watchdog: Option<Duration>,
    /// The last message failed, and this was logged.
    has_failed: AtomicBool,
}

impl Supervisor {
    /// Uses `NOTIFY_SOCKET` and `WATCHDOG_USEC`. A socket of a kind that this system does not support is ignored.
    pub(crate) fn from_environment() -> Self {
        let socket =
            std::env::var_os("NOTIFY_SOCKET").and_then(|name| NotifySocket::open(name).ok());
        Self {
            watchdog: socket.as_ref().and_then(|_| sd_notify::watchdog_enabled()),
            socket,
            has_failed: AtomicBool::new(false),
        }
    }

    /// Reports that the agent serves, for the first time or again.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Reports that the agent reloads its config, until [`ready`](Self::ready).
    pub(crate) fn reloading(&self) {
        // Without the time systemd would treat the reload as failed.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.send(&[NotifyState::Reloading, now]);
        }
    }

    /// Reports that shutdown has begun.
    pub(crate) fn stopping(&self) {
        let status = NotifyState::Status("finishing requests in flight");
        self.send(&[NotifyState::Stopping, status]);
    }

    /// Sends watchdog messages while the agent answers itself on `port`, whatever KMS does. Returns if the service
    /// manager expects none.
    pub(crate) async fn run_watchdog(&self, port: u16) {
        // Twice as often as expected, so that one may be late.
        let Some(every) = self.watchdog.map(|limit| limit / 2) else {
            return;
        };
        let mut ticks = interval(every.max(Duration::from_millis(1)));
        let client = Client {
            port,
            socket: None,
            trusted: None,
            token: None,
        };
        let mut is_silent = false;
        loop {
            ticks.tick().await;
            let answer = timeout(every, client.ask(&Method::GET, "/livez")).await;
            let answers = matches!(answer, Ok(Ok(reply)) if reply.status == StatusCode::OK);
            if answers {
                self.send(&[NotifyState::Watchdog]);
            } else if !is_silent {
                tracing::warn!(
                    "The agent does not answer its own health check; no watchdog message is sent"
                );
            }
            is_silent = !answers;
        }
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else {
            return;
        };
        let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
        let message = lines.join("\n");
        match socket.send(message.as_bytes()) {
            Ok(_) => self.has_failed.store(false, Ordering::Relaxed),
            Err(error) if !self.has_failed.swap(true, Ordering::Relaxed) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "Sending the state to the service manager failed; check NOTIFY_SOCKET"
            ),
            Err(_) => {}
        }
    }
}
