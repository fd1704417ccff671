//! Listeners on both loopback addresses with one port, so that no other process can listen on `localhost`.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use super::socket::ClientSocket;
use crate::caller::Peer;
#[cfg(unix)]
use crate::caller::PeerUser;

/// Number of connections that may wait to be accepted: a thousand callers may connect at once.
pub(super) const BACKLOG: i32 = 1024;

/// Bytes of unread responses that the system may hold for each connection. Linux doubles the value to cover its own
/// overhead.
const SEND_BUFFER: usize = 128 * 1024;

/// Number of attempts to find a port that is free in both address families.
const FREE_PORT_TRIES: usize = 20;

/// Open listeners on 127.0.0.1 and, where the host has it, `[::1]`.
#[derive(Debug)]
pub struct Listeners {
    v4: TcpListener,
    v6: Option<TcpListener>,
    port: u16,
    #[cfg(unix)]
    unix: Option<std::os::unix::net::UnixListener>,
}

/// Listener of either kind.
#[derive(Debug)]
pub(super) enum ClientListener {
    Tcp(tokio::net::TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
}

impl ClientListener {
    /// Waits for the next connection.
    pub(super) async fn accept(&self) -> io::Result<(ClientSocket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok(tcp(stream, address))
            }
            #[cfg(unix)]
            Self::Unix(listener) => unix(listener.accept().await?.0),
        }
    }

    /// Takes the connections that wait in the queue, until there are none or one fails.
    pub(super) fn drain(self, mut admit: impl FnMut(ClientSocket, Peer)) -> io::Result<()> {
        // The runtime may not know of them yet.
        match self {
            Self::Tcp(listener) => {
                let listener = listener.into_std()?;
                for _ in 0..BACKLOG {
                    let (stream, address) = listener.accept()?;
                    stream.set_nonblocking(true)?;
                    let (socket, peer) = tcp(tokio::net::TcpStream::from_std(stream)?, address);
                    admit(socket, peer);
                }
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let listener = listener.into_std()?;
                for _ in 0..BACKLOG {
                    let (stream, _) = listener.accept()?;
                    stream.set_nonblocking(true)?;
                    let (socket, peer) = unix(tokio::net::UnixStream::from_std(stream)?)?;
                    admit(socket, peer);
                }
            }
        }
        Ok(())
    }
}

fn tcp(stream: tokio::net::TcpStream, address: SocketAddr) -> (ClientSocket, Peer) {
    // Responses are written whole; a delay to fill a packet gains nothing.
    let _ = stream.set_nodelay(true);
    let port = address.port();
    (ClientSocket::Tcp(stream), Peer::Tcp { port })
}

#[cfg(unix)]
fn unix(stream: tokio::net::UnixStream) -> io::Result<(ClientSocket, Peer)> {
    let user = stream.peer_cred()?;
    let peer = Peer::Unix(PeerUser::new(user.uid(), user.gid(), user.pid()));
    Ok((ClientSocket::Unix(stream), peer))
}

/// Reason why the port cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens on it, on one of the two addresses.
    #[error(
        "port {port} on {address} is held by another process; stop it or choose another one (Server.HttpPort, or --port of dev)"
    )]
    InUse {
        /// Requested port.
        port: u16,
        /// Address that the other process listens on.
        address: &'static str,
    },
    /// A socket of the service manager is not a loopback listener.
    #[error(
        "the service manager passed a socket that is not a TCP listener on a loopback address ({found}); the .socket unit needs ListenStream=127.0.0.1:PORT and ListenStream=[::1]:PORT, with one port"
    )]
    Unsuitable {
        /// Address or kind of the socket.
        found: String,
    },
    /// The system refuses for another reason.
    #[error("cannot listen on {address} port {port}: {source}")]
    Refused {
        /// Requested port.
        port: u16,
        /// Requested address.
        address: &'static str,
        /// Error of the system.
        source: io::Error,
    },
}

impl Listeners {
    /// Opens both listeners; port 0 selects a port that is free on both addresses.
    pub fn open(port: u16) -> Result<Self, BindError> {
        let mut tries = if port == 0 { FREE_PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            match Self::open_once(port) {
                Err(BindError::InUse { .. }) if tries > 0 => {}
                result => return result,
            }
        }
    }

    /// Takes over listeners that the service manager has opened, and opens the missing one at the same port.
    pub fn adopt(inherited: Vec<TcpListener>) -> Result<Self, BindError> {
        let (mut v4, mut v6, mut port) = (None, None, 0);
        for listener in inherited {
            let address = loopback_address(&listener)?;
            let place = match address.ip() {
                IpAddr::V4(_) => &mut v4,
                IpAddr::V6(_) => &mut v6,
            };
            if place.is_some() || (port != 0 && port != address.port()) {
                return Err(unsuitable(address));
            }
            *place = Some(listener);
            port = address.port();
        }
        Self::complete(v4, v6, port)
    }

    /// Returns the addresses that [`open`](Self::open) would listen on at `port`. It does not listen itself, and on Linux
    /// an agent that starts meanwhile gets the port.
    pub fn probe(port: u16) -> Result<Vec<String>, BindError> {
        #[cfg(target_os = "linux")]
        {
            let addresses = [
                ("127.0.0.1", SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
                ("[::1]", SocketAddr::from((Ipv6Addr::LOCALHOST, port))),
            ];
            let mut free = Vec::new();
            for (name, address) in addresses {
                match bind_without_listening(address) {
                    Ok(()) => free.push(address.to_string()),
                    Err(error) if address.is_ipv6() && has_no_ipv6(&error) => {}
                    Err(error) => return Err(refused(name, port, error)),
                }
            }
            Ok(free)
        }
        #[cfg(not(target_os = "linux"))]
        Self::open(port).map(|listeners| listeners.addresses())
    }

    fn open_once(port: u16) -> Result<Self, BindError> {
        Self::complete(None, None, port)
    }

    /// Opens the missing ones of the two listeners.
    fn complete(
        v4: Option<TcpListener>,
        v6: Option<TcpListener>,
        port: u16,
    ) -> Result<Self, BindError> {
        const V4: &str = "127.0.0.1";
        const V6: &str = "[::1]";
        let v4 = v4
            .map_or_else(|| TcpListener::bind((Ipv4Addr::LOCALHOST, port)), Ok)
            .map_err(|error| refused(V4, port, error))?;
        let port = v4
            .local_addr()
            .map_err(|error| refused(V4, port, error))?
            .port();
        let v6 = match v6.map_or_else(|| TcpListener::bind((Ipv6Addr::LOCALHOST, port)), Ok) {
            Ok(listener) => Some(listener),
            Err(error) if has_no_ipv6(&error) => None,
            Err(error) => return Err(refused(V6, port, error)),
        };
        for (listener, address) in [(Some(&v4), V4), (v6.as_ref(), V6)] {
            let Some(listener) = listener else { continue };
            listener
                .set_nonblocking(true)
                .map_err(|error| refused(address, port, error))?;
            // A second listen(2) only lengthens the queue, which is short by default in the standard library.
            rustix::net::listen(listener, BACKLOG)
                .map_err(|error| refused(address, port, error.into()))?;
        }
        Ok(Self {
            v4,
            v6,
            port,
            #[cfg(unix)]
            unix: None,
        })
    }

    /// Adds the Unix socket, which does not block.
    #[cfg(unix)]
    #[must_use]
    pub fn and_unix(self, unix: Option<std::os::unix::net::UnixListener>) -> Self {
        Self { unix, ..self }
    }

    /// Returns the port of the listeners.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the addresses of the listeners as text.
    pub fn addresses(&self) -> Vec<String> {
        let v6 = self.v6.as_ref().map(|_| format!("[::1]:{}", self.port));
        std::iter::once(format!("127.0.0.1:{}", self.port))
            .chain(v6)
            .collect()
    }

    /// Takes the Unix socket.
    #[cfg(unix)]
    pub(super) fn take_unix(&mut self) -> io::Result<Option<ClientListener>> {
        self.unix
            .take()
            .map(|unix| tokio::net::UnixListener::from_std(unix).map(ClientListener::Unix))
            .transpose()
    }

    /// There is none on this system.
    #[cfg(not(unix))]
    #[expect(
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "on Unix it may fail"
    )]
    pub(super) fn take_unix(&mut self) -> io::Result<Option<ClientListener>> {
        Ok(None)
    }

    pub(super) fn into_tokio(self) -> io::Result<Vec<ClientListener>> {
        std::iter::once(self.v4)
            .chain(self.v6)
            .map(|listener| {
                // Accepted connections inherit it.
                rustix::net::sockopt::set_socket_send_buffer_size(&listener, SEND_BUFFER)?;
                tokio::net::TcpListener::from_std(listener).map(ClientListener::Tcp)
            })
            .collect()
    }
}

/// Binds a socket and closes it. It has `SO_REUSEADDR`, as listeners have, so that the bind fails only if another socket
/// listens on the port.
#[cfg(target_os = "linux")]
fn bind_without_listening(address: SocketAddr) -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(bind(&socket, &address)?)
}

/// Whether the host has no IPv6 or no `[::1]`. No other process can listen there either.
fn has_no_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Returns the address of an inherited socket if it listens on a loopback address of TCP.
fn loopback_address(listener: &TcpListener) -> Result<SocketAddr, BindError> {
    use rustix::net::sockopt::socket_acceptconn;

    let address = listener.local_addr().map_err(unsuitable)?;
    // An IPv4 address in IPv6 form is not loopback here, since it would hold the wrong one of the two.
    let is_ours = [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ]
    .contains(&address.ip());
    let listens = socket_acceptconn(listener).map_err(unsuitable)?;
    if is_ours && listens {
        Ok(address)
    } else {
        Err(unsuitable(address))
    }
}

fn unsuitable(found: impl fmt::Display) -> BindError {
    BindError::Unsuitable {
        found: found.to_string(),
    }
}

fn refused(address: &'static str, port: u16, source: io::Error) -> BindError {
    if source.kind() == ErrorKind::AddrInUse {
        BindError::InUse { port, address }
    } else {
        BindError::Refused {
            port,
            address,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_holds_a_quarter_of_a_mebibyte_of_answers_for_a_connection() {
        let listeners = Listeners::open(0).unwrap();
        let address = (Ipv4Addr::LOCALHOST, listeners.port());
        let listeners = listeners.into_tokio().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = listeners[0].accept().await.unwrap();
        let ClientSocket::Tcp(accepted) = accepted else {
            panic!("a TCP listener accepts TCP connections");
        };
        let bytes = rustix::net::sockopt::socket_send_buffer_size(&accepted).unwrap();
        assert!(bytes <= 256 * 1024, "{bytes} bytes");
    }
}
