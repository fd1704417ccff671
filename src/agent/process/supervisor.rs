//! What the service manager is told, as `sd_notify` defines it.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use sd_notify::NotifyState;
use tokio::time::{interval, timeout};

use crate::client::Client;

/// How long the service manager may take to have room for a message.
const SEND_LIMIT: Duration = Duration::from_secs(1);

/// A socket on which messages are sent.
#[derive(Debug)]
struct Socket {
    socket: UnixDatagram,
    /// Destination, unless the socket is connected. The listener at a path may be replaced meanwhile.
    address: Option<SocketAddr>,
}

impl Socket {
    /// A socket for the service manager at `name`.
    fn open(name: OsString) -> io::Result<Self> {
        let address = address(name)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        // Landlock lets a process send to names that are in no file system only on connections that it has already.
        let is_connected = address.as_pathname().is_none() && socket.connect_addr(&address).is_ok();
        Ok(Self {
            socket,
            address: (!is_connected).then_some(address),
        })
    }

    fn send(&self, message: &[u8]) -> io::Result<usize> {
        match &self.address {
            Some(address) => self.socket.send_to_addr(message, address),
            None => self.socket.send(message),
        }
    }
}

/// Where the service manager listens, if there is one.
#[derive(Debug)]
pub(crate) struct Supervisor {
    /// The socket is open from the start, so that want of descriptors silences nothing.
    socket: Option<Socket>,
    /// How often it wants a sign of life.
    watchdog: Option<Duration>,
    /// The last message did not get through, and that has been told.
    is_deaf: AtomicBool,
}

impl Supervisor {
    /// The one that `NOTIFY_SOCKET` and `WATCHDOG_USEC` name. A socket of a kind that this system does not have
    /// is none.
    pub(crate) fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| Socket::open(name).ok());
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
        let client = Client { port, token: None };
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

/// A path, or behind `@` a name that is in no file system, which the library does not know of.
#[cfg(target_os = "linux")]
fn address(name: OsString) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;

    match name.as_bytes().strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(not(target_os = "linux"))]
fn address(name: OsString) -> io::Result<SocketAddr> {
    SocketAddr::from_pathname(name)
}
