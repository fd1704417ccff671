use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::rustls::{HandshakeKind, NamedGroup, ServerConfig};

use super::authority::Chain;
use super::runtime;

/// A TLS server that forwards the decrypted bytes.
pub(crate) struct Front {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Handshake>>>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
    _runtime: Runtime,
}

/// A completed handshake.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    /// Key exchange that the client prefers.
    pub(crate) first_group: NamedGroup,
    /// Key exchange that was agreed on.
    pub(crate) group: NamedGroup,
    /// Whether the server had to ask for another key share.
    pub(crate) asked_again: bool,
}

impl Front {
    /// Starts the server in front of `behind`, with the certificates of `chain`.
    pub(crate) fn start(behind: SocketAddr, chain: Chain) -> Self {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.certificates, chain.key)
            .unwrap();
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (config, log, taken) = (
            Arc::new(config),
            Arc::clone(&seen),
            Arc::clone(&connections),
        );
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (config, log) = (Arc::clone(&config), Arc::clone(&log));
                let connection = tokio::spawn(async move {
                    // Some tests expect the client to reject the certificate.
                    let _ = pass_on(client, config, behind, &log).await;
                });
                taken.lock().unwrap().push(connection.abort_handle());
            }
        });
        Self {
            address,
            seen,
            connections,
            _runtime: runtime,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection.
    pub(crate) fn hang_up(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
    }

    /// Returns the handshakes so far, oldest first.
    pub(crate) fn handshakes(&self) -> Vec<Handshake> {
        self.seen.lock().unwrap().clone()
    }
}

async fn pass_on(
    client: TcpStream,
    config: Arc<ServerConfig>,
    behind: SocketAddr,
    seen: &Mutex<Vec<Handshake>>,
) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let greeted = LazyConfigAcceptor::new(Acceptor::default(), client).await?;
    let first_group = greeted.client_hello().named_groups().unwrap()[0];
    let mut client = greeted.into_stream(config).await?;
    let connection = client.get_ref().1;
    let handshake = Handshake {
        first_group,
        group: connection.negotiated_key_exchange_group().unwrap().name(),
        asked_again: connection.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest),
    };
    seen.lock().unwrap().push(handshake);
    let mut server = TcpStream::connect(behind).await?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
