//! Users whose processes listen on a loopback port, as the kernel lists its sockets. A bearer token is given to the
//! process at the other end. Before it is sent, that process must belong to a user who may have it: root, the caller's
//! own user, the owner of the token file, or a user that the caller names.

use std::path::Path;

use crate::platform;

/// Number of a user.
pub(crate) type Uid = u32;

/// Users whose processes may be given the token.
#[derive(Clone, Debug)]
pub(crate) struct TrustedUsers(Vec<Uid>);

impl TrustedUsers {
    /// Returns root, the user of this process, and the owner of the token file `path`.
    pub(crate) fn of_token(path: Option<&Path>) -> Self {
        let root = 0;
        let owner = path.and_then(platform::owner_of);
        Self(
            [root, platform::own_user()]
                .into_iter()
                .chain(owner)
                .collect(),
        )
    }

    /// Adds `user`.
    #[must_use]
    pub(crate) fn and(mut self, user: Option<Uid>) -> Self {
        self.0.extend(user);
        self
    }

    pub(crate) fn contains(&self, user: Uid) -> bool {
        self.0.contains(&user)
    }
}

/// Returns name and number of a user for a message.
pub(crate) fn name_of(user: Uid) -> String {
    match platform::user_name(user) {
        Some(name) => format!("the user {name} (uid {user})"),
        None => format!("the user with uid {user}"),
    }
}

/// Returns the users with a listener that a connection to 127.0.0.1 or `[::1]` and `port` can reach. Empty if no
/// process listens, and if the system does not list sockets.
pub(crate) fn listening_on(port: u16) -> Vec<Uid> {
    let mut users: Vec<Uid> = sockets()
        .filter(|socket| socket.state == LISTEN && socket.local.port == port)
        .filter(|socket| socket.local.is_reached_by_loopback())
        .map(|socket| socket.user)
        .collect();
    users.sort_unstable();
    users.dedup();
    users
}

/// Returns the user of the server's socket of a connection from 127.0.0.1 and `client_port` to `port` there.
pub(crate) fn serving(port: u16, client_port: u16) -> Option<Uid> {
    sockets()
        .filter(|socket| socket.state != TIME_WAIT && socket.state != LISTEN)
        .find(|socket| {
            [(socket.local, port), (socket.remote, client_port)]
                .into_iter()
                .all(|(end, port)| end.port == port && end.is_ipv4_loopback())
        })
        .map(|socket| socket.user)
}

const LISTEN: u8 = 0x0A;
/// A socket in this state belongs to no process any more.
const TIME_WAIT: u8 = 0x06;

/// Line of `/proc/net/tcp` or `tcp6` (`proc_net_tcp` of the kernel's documentation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TcpSocket {
    local: SocketEnd,
    remote: SocketEnd,
    state: u8,
    user: Uid,
}

/// Address and port of a socket; an IPv4 address is in its IPv6 form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SocketEnd {
    address: std::net::Ipv6Addr,
    port: u16,
}

impl SocketEnd {
    fn is_reached_by_loopback(self) -> bool {
        let is_any = self.address.is_unspecified()
            || self
                .address
                .to_ipv4_mapped()
                .is_some_and(|it| it.is_unspecified());
        is_any || self.address.is_loopback() || self.is_ipv4_loopback()
    }

    fn is_ipv4_loopback(self) -> bool {
        self.address.to_ipv4_mapped() == Some(std::net::Ipv4Addr::LOCALHOST)
    }
}

/// Returns all TCP sockets of this network namespace that can be read. The files of the process itself exist even where
/// the rest of /proc is hidden.
fn sockets() -> impl Iterator<Item = TcpSocket> {
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|text| {
            text.lines()
                .filter_map(TcpSocket::parse)
                .collect::<Vec<_>>()
        })
}

impl TcpSocket {
    /// Parses a line; `None` for the heading.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = SocketEnd::parse(fields.next()?)?;
        let remote = SocketEnd::parse(fields.next()?)?;
        let state = u8::from_str_radix(fields.next()?, 16).ok()?;
        // The fields between are queues, timer and retransmissions.
        let user = fields.nth(3)?.parse().ok()?;
        Some(Self {
            local,
            remote,
            state,
            user,
        })
    }
}

impl SocketEnd {
    /// Reads `ADDRESS:PORT` in hexadecimal. The address is in words of four bytes, each in the order of this machine.
    fn parse(text: &str) -> Option<Self> {
        let (address, port) = text.split_once(':')?;
        let mut bytes = Vec::with_capacity(16);
        let (words, rest) = address.as_bytes().as_chunks::<8>();
        if !rest.is_empty() {
            return None;
        }
        for word in words {
            let word = u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok()?;
            bytes.extend(word.to_ne_bytes());
        }
        let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
            Ok(short) => std::net::Ipv4Addr::from(short).to_ipv6_mapped(),
            Err(_) => <[u8; 16]>::try_from(bytes.as_slice()).ok()?.into(),
        };
        let port = u16::from_str_radix(port, 16).ok()?;
        Some(Self { address, port })
    }
}

#[cfg(all(test, target_os = "linux", target_endian = "little"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        for (line, local, user) in [
            (
                "   0: 0100007F:07E9 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 25173 1 0000000000000000 100 0 0 10 0",
                "::ffff:127.0.0.1",
                998,
            ),
            (
                "   1: 00000000000000000000000001000000:07E9 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0",
                "::1",
                0,
            ),
            (
                "   2: 0000000000000000FFFF00000100007F:07E9 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 65534        0 1 1 0 100 0 0 10 0",
                "::ffff:127.0.0.1",
                65534,
            ),
        ] {
            let socket = TcpSocket::parse(line).unwrap();
            assert_eq!(
                socket.local.address,
                local.parse::<std::net::Ipv6Addr>().unwrap()
            );
            assert_eq!(
                (socket.local.port, socket.user, socket.state),
                (2025, user, LISTEN)
            );
            assert!(socket.local.is_reached_by_loopback());
        }
        for line in [
            "",
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
            "   0: 0100007F:07E9 00000000:0000 0A",
            "   0: 01007F:07E9 00000000:0000 0A 0:0 0:0 0 998 0",
        ] {
            assert_eq!(TcpSocket::parse(line), None, "{line}");
        }
    }

    #[test]
    fn own_listeners_and_connections_are_found() {
        let own = platform::own_user();
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                eprintln!("skipped: this host has no {address}");
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            assert_eq!(listening_on(port), [own], "{address}");
            let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let _server = listener.accept().unwrap();
            let client_port = client.local_addr().unwrap().port();
            assert_eq!(serving(port, client_port), Some(own), "{address}");
            drop(listener);
            assert!(listening_on(port).is_empty(), "{address}");
        }
    }
}
