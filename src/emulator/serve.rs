//! Connections: accepted, served, and dropped when the emulator stops.

#[cfg(feature = "tls")]
pub(crate) mod tls;

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::route;
use crate::state::Services;

#[cfg(feature = "tls")]
type Acceptor = tokio_rustls::TlsAcceptor;
/// Uninhabited without the feature.
#[cfg(not(feature = "tls"))]
#[derive(Clone)]
pub(crate) enum Acceptor {}

/// Limit for a TLS handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause after a failed accept, mostly for want of descriptors.
const BREATH: Duration = Duration::from_millis(50);

/// Accepts connections until the sender of `stop` is dropped, then closes them all. Dropping the future closes
/// them too.
pub(crate) async fn serve(
    shared: Arc<Services>,
    listener: TcpListener,
    tls: Option<Acceptor>,
    mut stop: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    shared.note_connection();
                    connections.spawn(greet(Arc::clone(&shared), stream, tls.clone()));
                }
                Err(_) => sleep(BREATH).await,
            },
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn greet(shared: Arc<Services>, stream: TcpStream, tls: Option<Acceptor>) {
    // Otherwise small answers wait for an acknowledgement. If this fails, they are only late.
    let _ = stream.set_nodelay(true);
    match tls {
        None => converse(shared, stream).await,
        Some(tls) => {
            if let Some(stream) = handshake(tls, stream).await {
                converse(shared, stream).await;
            }
        }
    }
}

#[cfg(feature = "tls")]
async fn handshake(
    tls: Acceptor,
    stream: TcpStream,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    tokio::time::timeout(PATIENCE, tls.accept(stream))
        .await
        .ok()?
        .ok()
}

#[cfg(not(feature = "tls"))]
fn handshake(tls: Acceptor, _: TcpStream) -> std::future::Ready<Option<TcpStream>> {
    match tls {}
}

async fn converse(shared: Arc<Services>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let backlog = route::Backlog::default();
    let service = service_fn(|request| route::answer(&shared, &backlog, request));
    // If the service fails, hyper closes the connection without an answer, which is a cut. The cause of a closed
    // connection does not matter.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
