//! The loopback listeners, the limit on connections, and the graceful end.

mod connection;
mod idle_timer;
mod listen;
mod parse_failure;
mod progress;
mod request_head;
mod slots;
mod stream;

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
use crate::guard::Authorities;

/// How long requests in flight may take once the end has been asked for.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// The pause after a failed accept, most often for want of descriptors, which only time can mend.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often failing accepts are told of.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Serves until `stop` is cancelled, then lets what is in flight finish, for five seconds at most.
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
            "Not every connection ended in time; closing the rest"
        );
    }
    acceptor.context.log_refusals();
    Ok(())
}

/// Accepts on `listener` until the end, also after a panic.
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
        // An error means that the listener cannot be had, or that nobody is waiting any more.
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
                    self.admit(stream, peer.port());
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

    /// Lets in whoever was waiting at the door when the end came, without waiting for anybody.
    fn admit_waiting(&self, listener: TcpListener) -> io::Result<()> {
        let listener = listener.into_std()?;
        for _ in 0..listen::BACKLOG {
            let (stream, peer) = listener.accept()?;
            stream.set_nonblocking(true)?;
            self.admit(TcpStream::from_std(stream)?, peer.port());
        }
        Ok(())
    }

    fn admit(&self, stream: TcpStream, peer_port: u16) {
        // Answers are written whole; waiting to fill a packet could only delay them.
        let _ = stream.set_nodelay(true);
        // Without a slot the connection is closed at once.
        if let Some(slot) = self.slots.take(&self.stop) {
            let context = Arc::clone(&self.context);
            self.connections
                .spawn(connection::run(context, stream, peer_port, slot));
        }
    }
}

/// Tells of failing accepts: the first at once, then once a minute how many there were.
#[derive(Default)]
struct AcceptFailures {
    unlogged: u64,
    /// In boot time.
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
            "Connections cannot be accepted at the moment; trying on"
        );
        *self = Self {
            unlogged: 0,
            logged_at: Some(now),
        };
    }
}
