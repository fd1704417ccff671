//! Loopback listeners, the limit on connections, and graceful shutdown.

mod connection;
mod idle_timer;
mod listen;
mod parse_failure;
mod progress;
mod request_head;
mod slots;
mod stream;
mod waiting;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_cache::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::Context;
pub use self::listen::{BindError, Listeners};
use self::slots::ConnectionSlots;
use crate::app::App;
use crate::caller::Peer;
use crate::guard::Authorities;

/// Time for requests in flight at shutdown.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Pause after a failed accept. The usual cause is a lack of descriptors, which may pass.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Interval between log lines about failing accepts.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Serves until `stop` is cancelled, then gives requests in flight five seconds to finish.
pub async fn serve(app: Arc<App>, listeners: Listeners, stop: CancellationToken) -> io::Result<()> {
    let port = listeners.port();
    let listeners = listeners.into_tokio()?;
    let tasks = Arc::clone(&app.tasks);
    let acceptor = Arc::new(Acceptor {
        slots: ConnectionSlots::new(app.settings.max_conn),
        context: Arc::new(Context::new(app, Authorities::loopback(port))),
        connections: TaskTracker::new(),
        stop: stop.clone(),
    });
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(keep_accepting(&tasks, &acceptor, listener)))
        .collect();
    stop.cancelled().await;
    for task in accepting {
        // The loops end by themselves.
        let _ = task.await;
    }
    acceptor.connections.close();
    if tokio::time::timeout(DRAIN_LIMIT, acceptor.connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = acceptor.connections.len(),
            "Connections did not finish in time at shutdown; closing them"
        );
    }
    acceptor.context.log_refusals();
    Ok(())
}

/// Accepts on `listener` until shutdown, also after a panic.
fn keep_accepting(
    tasks: &Arc<Tasks>,
    acceptor: &Arc<Acceptor>,
    listener: TcpListener,
) -> impl Future<Output = ()> + use<> {
    let listener = Arc::new(listener);
    let kept = Arc::clone(tasks).keep("accept", {
        let (acceptor, listener) = (Arc::clone(acceptor), Arc::clone(&listener));
        move || {
            let (acceptor, listener) = (Arc::clone(&acceptor), Arc::clone(&listener));
            async move { acceptor.accept(&listener).await }
        }
    });
    let acceptor = Arc::clone(acceptor);
    async move {
        kept.await;
        // An error means that no connection is waiting any more.
        if let Some(listener) = Arc::into_inner(listener) {
            let _ = acceptor.admit_waiting(listener);
        }
    }
}

/// Accepts connections and serves each in a task of its own.
struct Acceptor {
    slots: ConnectionSlots,
    context: Arc<Context>,
    connections: TaskTracker,
    stop: CancellationToken,
}

impl Acceptor {
    async fn accept(&self, listener: &TcpListener) {
        let mut failures = AcceptFailures::default();
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    self.admit(stream, Peer::Tcp { port: peer.port() });
                    // Connections that give way close as soon as their tasks run. The system queues newcomers
                    // meanwhile, so that no more descriptors are in use than these.
                    while self.slots.is_crowded() && !self.stop.is_cancelled() {
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) => {
                    failures.log(&error, self.context.now());
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Admits the connections that were waiting in the queue at shutdown.
    fn admit_waiting(&self, listener: TcpListener) -> io::Result<()> {
        let listener = listener.into_std()?;
        for _ in 0..listen::BACKLOG {
            let (stream, peer) = listener.accept()?;
            stream.set_nonblocking(true)?;
            self.admit(
                TcpStream::from_std(stream)?,
                Peer::Tcp { port: peer.port() },
            );
        }
        Ok(())
    }

    fn admit(&self, stream: TcpStream, peer: Peer) {
        // Responses are written whole; a delay to fill a packet gains nothing.
        let _ = stream.set_nodelay(true);
        // Without a slot the connection is closed at once.
        if let Some(slot) = self.slots.take(&self.stop) {
            let context = Arc::clone(&self.context);
            let (connections, stop) = (self.connections.clone(), self.stop.clone());
            self.connections.spawn(async move {
                if let Some(waiting) =
                    connection::run(Arc::clone(&context), stream, peer, slot).await
                {
                    let (request, stream, peer) = waiting;
                    // A small task of its own: this one would keep the room of a connection.
                    connections.spawn(request.finish(context, stream, peer, stop));
                }
            });
        }
    }
}

/// Log of failing accepts: the first at once, then their number once a minute.
#[derive(Default)]
struct AcceptFailures {
    unlogged: u64,
    /// Boot time of the last log line.
    logged_at: Option<Duration>,
}

impl AcceptFailures {
    fn log(&mut self, error: &io::Error, now: Duration) {
        self.unlogged += 1;
        if self.logged_at.is_some_and(|at| now < at + LOG_INTERVAL) {
            return;
        }
        tracing::warn!(
            error = error as &dyn std::error::Error,
            failures = self.unlogged,
            "Accepting connections failed; retrying"
        );
        *self = Self {
            unlogged: 0,
            logged_at: Some(now),
        };
    }
}
