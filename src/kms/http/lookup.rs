//! Name look-up on threads of its own.
//!
//! `getaddrinfo` cannot be interrupted, and with a DNS server that swallows packets a call of it takes half a minute.
//! On the runtime's blocking pool such calls would take every thread, and the token, profile and config files
//! are read there.

mod queue;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::LazyLock;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use self::queue::LookupQueue;

/// The queue of the process: its threads are few because there is one queue for all clients.
static QUEUE: LazyLock<LookupQueue> = LazyLock::new(|| LookupQueue::new(system));

/// Asks the system, `/etc/hosts` and the like included.
fn system(name: &str) -> io::Result<Vec<IpAddr>> {
    let found = (name, 0).to_socket_addrs()?;
    Ok(found.map(|address| address.ip()).collect())
}

/// Addresses of `name`, waited for as long as `timeout`. `localhost` is this machine, whatever `/etc/hosts` says.
pub(crate) async fn look_up(name: &str, timeout: Duration) -> io::Result<Vec<IpAddr>> {
    if is_localhost(name) {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    match tokio::time::timeout(timeout, QUEUE.look_up(name)).await {
        Ok(found) => found,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "failed to lookup address information: no answer in time",
        )),
    }
}

fn is_localhost(name: &str) -> bool {
    name.strip_suffix('.')
        .unwrap_or(name)
        .eq_ignore_ascii_case("localhost")
}

/// [`look_up`] as the HTTP library wants it.
#[derive(Debug)]
pub(super) struct Lookup {
    timeout: Duration,
}

impl Lookup {
    /// A look-up for a client that gives up connecting after `connect_timeout`. It ends a little earlier, so that
    /// the error can say what took the time.
    pub(super) fn within(connect_timeout: Duration) -> Self {
        Self {
            timeout: connect_timeout.saturating_sub(connect_timeout / 20),
        }
    }
}

impl Resolve for Lookup {
    fn resolve(&self, name: Name) -> Resolving {
        let timeout = self.timeout;
        Box::pin(async move {
            let found = look_up(name.as_str(), timeout).await?;
            // Port 0 stands for the port of the URL.
            let addresses = found.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn localhost_is_this_machine_and_is_not_looked_up() {
        for name in ["localhost", "LocalHost", "localhost."] {
            let found = look_up(name, Duration::ZERO).await.expect("no look-up");
            assert!(found.iter().all(IpAddr::is_loopback), "{name}");
            assert_eq!(found.len(), 2);
        }
        assert!(!is_localhost("localhost.example.com"));
    }
}
