//! Socket of the service manager, as `sd_notify` defines it.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Time in which the service manager must have room for a message.
const SEND_LIMIT: Duration = Duration::from_secs(1);

/// Socket on which messages are sent.
#[derive(Debug)]
pub(super) struct NotifySocket {
    socket: UnixDatagram,
    /// Destination, unless the socket is connected. The listener at a path may be replaced meanwhile.
    address: Option<SocketAddr>,
}

impl NotifySocket {
    /// Opens a socket to the service manager at `name`.
    pub(super) fn open(name: OsString) -> io::Result<Self> {
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

    pub(super) fn send(&self, message: &[u8]) -> io::Result<usize> {
        match &self.address {
            Some(address) => self.socket.send_to_addr(message, address),
            None => self.socket.send(message),
        }
    }
}

/// Parses a path, or an abstract name after `@`, which the library does not support.
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
