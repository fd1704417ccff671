//! What the service manager is told, as `sd_notify` defines it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use sd_notify::NotifyState;
use tokio::time::{interval, timeout};

use super::notify_socket::NotifySocket;
use crate::client::Client;

/// Where the service manager listens, if there is one.
#[derive(Debug)]
pub(crate) struct Supervisor {
    /// The socket is open from the start, so that want of descriptors silences nothing.
    socket: Option<NotifySocket>,
    /// How often it wants a sign of life.
    watchdog: Option<Duration>,
    /// The last message did not get through, and that has been told.
    is_deaf: AtomicBool,
}

impl Supervisor {
    /// The one that `NOTIFY_SOCKET` and `WATCHDOG_USEC` name. A socket of a kind that this system does not have
    /// is none.
    pub(crate) fn from_environment() -> Self {
        let socket =
            std::env::var_os("NOTIFY_SOCKET").and_then(|name| NotifySocket::open(name).ok());
        Self {
            watchdog: socket.as_ref().and_then(|_| sd_notify::watchdog_enabled()),
            socket,
            is_deaf: AtomicBool::new(false),
        }
    }

    /// The agent serves, for the first time or again.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The agent reads its config anew; [`ready`](Self::ready) ends it.
    pub(crate) fn reloading(&self) {
        // Without the time systemd would take the reload for a failure.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.tell(&[NotifyState::Reloading, now]);
        }
    }

    /// The end has begun.
    pub(crate) fn stopping(&self) {
        let status = NotifyState::Status("finishing what is in flight");
        self.tell(&[NotifyState::Stopping, status]);
    }

    /// Gives signs of life for as long as the agent answers itself on `port`, whatever KMS does. Returns if
    /// nobody wants them.
    pub(crate) async fn feed_watchdog(&self, port: u16) {
        // Twice as often as is asked for, so that one may come late.
        let Some(every) = self.watchdog.map(|limit| limit / 2) else {
            return;
        };
        let mut ticks = interval(every.max(Duration::from_millis(1)));
        let client = Client {
            port,
            trusted: None,
            token: None,
        };
        let mut is_starving = false;
        loop {
            ticks.tick().await;
            let answer = timeout(every, client.ask(&Method::GET, "/livez")).await;
            let answers = matches!(answer, Ok(Ok(reply)) if reply.status == StatusCode::OK);
            if answers {
                self.tell(&[NotifyState::Watchdog]);
            } else if !is_starving {
                tracing::warn!(
                    "The agent does not answer itself; the service manager's watchdog is not fed"
                );
            }
            is_starving = !answers;
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else {
            return;
        };
        let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
        let message = lines.join("\n");
        match socket.send(message.as_bytes()) {
            Ok(_) => self.is_deaf.store(false, Ordering::Relaxed),
            Err(error) if !self.is_deaf.swap(true, Ordering::Relaxed) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "The service manager cannot be told how the agent is; is NOTIFY_SOCKET still its socket?"
            ),
            Err(_) => {}
        }
    }
}
