use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::runtime;

/// Largest first TLS record that fits into one packet.
const ONE_PACKET: usize = 1400;

/// A firewall that resets connections whose first TLS message takes more than one packet.
pub(crate) struct Narrow {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Narrow {
    /// Starts the firewall in front of `behind`.
    pub(crate) fn start(behind: SocketAddr) -> Self {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // Clients may disconnect at any time.
                    let _ = pass_on(client, behind).await;
                });
            }
        });
        Self {
            address,
            _runtime: runtime,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn pass_on(mut client: TcpStream, behind: SocketAddr) -> std::io::Result<()> {
    let mut head = [0; 5];
    client.read_exact(&mut head).await?;
    if usize::from(u16::from_be_bytes([head[3], head[4]])) > ONE_PACKET {
        // Closing a socket with unread bytes resets the connection.
        client.readable().await?;
        return Ok(());
    }
    let mut server = TcpStream::connect(behind).await?;
    server.write_all(&head).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
