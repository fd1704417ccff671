//! Loopback listeners and the Unix socket, the limit on connections, and graceful shutdown.

mod connection;
mod idle_timer;
mod listen;
mod parse_failure;
mod progress;
mod request_head;
mod slots;
mod socket;
mod stream;
mod waiting;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_cache::Tasks;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::Context;
use self::listen::ClientListener;
pub use self::listen::{BindError, Listeners};
use self::slots::ConnectionSlots;
use self::socket::ClientSocket;
use self::waiting::Watchers;
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
    let mut listeners = listeners;
    let authorities = Authorities::loopback(listeners.port());
    let unix = listeners.take_unix()?;
    let tasks = Arc::clone(&app.tasks);
    let connections = TaskTracker::new();
    let limit = app.settings.max_conn;
    // Callers of one listener cannot keep out those of the other.
    let unix_limit = if unix.is_some() { limit.div_ceil(2) } else { 0 };
    let watchers = Watchers::new(app.settings.max_watchers, app.metrics.watchers.clone());
    let acceptor = |limit: usize, authorities| {
        Arc::new(Acceptor {
            slots: ConnectionSlots::new(limit.max(1)),
            context: Arc::new(Context::new(Arc::clone(&app), authorities, &watchers)),
            connections: connections.clone(),
            stop: stop.clone(),
        })
    };
    let by_tcp = acceptor(limit - unix_limit, authorities);
    let by_unix = acceptor(unix_limit, Authorities::any());
    let listeners = listeners.into_tokio()?;
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| (&by_tcp, listener))
        .chain(unix.map(|listener| (&by_unix, listener)))
        .map(|(acceptor, listener)| tokio::spawn(keep_accepting(&tasks, acceptor, listener)))
        .collect();
    stop.cancelled().await;
    for task in accepting {
        // The loops end by themselves.
        let _ = task.await;
    }
    connections.close();
    if tokio::time::timeout(DRAIN_LIMIT, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "Connections did not finish in time at shutdown; closing them"
        );
    }
    app.access.log_refusals();
    Ok(())
}

/// Accepts on `listener` until shutdown, also after a panic.
fn keep_accepting(
    tasks: &Arc<Tasks>,
    acceptor: &Arc<Acceptor>,
    listener: ClientListener,
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
            let _ = listener.drain(|socket, peer| acceptor.admit(socket, peer));
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
    async fn accept(&self, listener: &ClientListener) {
        let mut failures = AcceptFailures::default();
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    self.admit(socket, peer);
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

    fn admit(&self, socket: ClientSocket, peer: Peer) {
        // Without a slot the connection is closed at once.
        if let Some(slot) = self.slots.take(&self.stop) {
            let context = Arc::clone(&self.context);
            let (connections, stop) = (self.connections.clone(), self.stop.clone());
            self.connections.spawn(async move {
                if let Some(waiting) =
                    connection::run(Arc::clone(&context), socket, peer, slot).await
                {
                    let (request, socket, peer) = waiting;
                    // A small task of its own: this one would keep the room of a connection.
                    connections.spawn(request.finish(context, socket, peer, stop));
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
