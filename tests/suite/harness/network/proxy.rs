use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::runtime;

/// An HTTP proxy that knows a few hosts and refuses any other.
pub(crate) struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

impl Proxy {
    /// Starts a proxy for `hosts`, pairs of `host:port` and the address behind it.
    pub(crate) fn start(hosts: &[(&str, SocketAddr)]) -> Self {
        let hosts: HashMap<String, SocketAddr> = hosts
            .iter()
            .map(|(host, address)| ((*host).to_owned(), *address))
            .collect();
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (hosts, log) = (Arc::new(hosts), Arc::clone(&seen));
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (hosts, log) = (Arc::clone(&hosts), Arc::clone(&log));
                tokio::spawn(async move {
                    // Clients may disconnect at any time.
                    let _ = tunnel(client, &hosts, &log).await;
                });
            }
        });
        Self {
            address,
            seen,
            _runtime: runtime,
        }
    }

    /// Returns the value of `HTTPS_PROXY`, with user and password.
    pub(crate) fn url(&self) -> String {
        format!("http://user:{}@{}", Self::PASSWORD, self.address)
    }

    pub(crate) const PASSWORD: &str = "proxy-hunter2";

    /// Returns the first lines of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn tunnel(
    mut client: TcpStream,
    hosts: &HashMap<String, SocketAddr>,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let line = head.lines().next().unwrap_or_default().to_owned();
    let behind = line
        .strip_prefix("CONNECT ")
        .and_then(|rest| hosts.get(rest.split(' ').next()?));
    log.lock().unwrap().push(line.clone());
    let Some(behind) = behind else {
        return client
            .write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            .await;
    };
    let mut server = TcpStream::connect(behind).await?;
    client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
