//! The loopback listeners, the limit on connections, and the graceful end.

mod connection;
mod listen;
mod reserve;
mod stream;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::{Context, Terms};
pub use self::listen::{BindError, Listeners};
use self::reserve::Reserve;
use crate::App;

/// How long requests in flight may take once the end has been asked for.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// The pause after a failed accept, most often for want of descriptors, which only time can mend.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often failing accepts are told of.
const TELL_AFTER: Duration = Duration::from_mins(1);

/// Serves until `stop` is cancelled, then lets what is in flight finish, for five seconds at most.
pub async fn serve(app: Arc<App>, listeners: Listeners, stop: CancellationToken) -> io::Result<()> {
    let port = listeners.port();
    let listeners = listeners.into_tokio()?;
    let tasks = Arc::clone(&app.tasks);
    let doorman = Arc::new(Doorman {
        permits: Arc::new(Semaphore::new(app.settings.max_conn)),
        reserve: Reserve::default(),
        context: Arc::new(Context::new(app, port)),
        connections: TaskTracker::new(),
        stop: stop.clone(),
    });
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(keep_accepting(&tasks, &doorman, listener)))
        .collect();
    stop.cancelled().await;
    for task in accepting {
        // The loops end by themselves.
        let _ = task.await;
    }
    doorman.connections.close();
    if tokio::time::timeout(DRAIN_LIMIT, doorman.connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = doorman.connections.len(),
            "Not every connection ended in time; closing the rest"
        );
    }
    doorman.context.tell_refusals();
    Ok(())
}

/// Accepts on `listener` until the end, also after a panic.
fn keep_accepting(
    tasks: &Arc<Tasks>,
    doorman: &Arc<Doorman>,
    listener: TcpListener,
) -> impl Future<Output = ()> + use<> {
    let listener = Arc::new(listener);
    let kept = Arc::clone(tasks).keep("accept", {
        let (doorman, listener) = (Arc::clone(doorman), Arc::clone(&listener));
        move || {
            let (doorman, listener) = (Arc::clone(&doorman), Arc::clone(&listener));
            async move { doorman.accept(&listener).await }
        }
    });
    let doorman = Arc::clone(doorman);
    async move {
        kept.await;
        // An error means that the listener cannot be had, or that nobody is waiting any more.
        if let Some(listener) = Arc::into_inner(listener) {
            let _ = doorman.admit_waiting(listener);
        }
    }
}

/// Decides what becomes of a new connection.
struct Doorman {
    permits: Arc<Semaphore>,
    reserve: Reserve,
    context: Arc<Context>,
    connections: TaskTracker,
    stop: CancellationToken,
}

impl Doorman {
    async fn accept(&self, listener: &TcpListener) {
        let mut trouble = Trouble::default();
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer.port()),
                Err(error) => {
                    trouble.tell(&error, self.context.now());
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
        let context = Arc::clone(&self.context);
        let stop = self.stop.clone();
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            self.connections.spawn(async move {
                connection::run(context, stream, peer_port, Terms::Full, stop).await;
                drop(permit);
            });
        } else if let Some(guest) = self.reserve.take_in(&stop) {
            self.connections.spawn(async move {
                let leave = guest.leave();
                connection::run(context, stream, peer_port, Terms::Reserve(guest), leave).await;
            });
        }
    }
}

/// Tells of failing accepts: the first at once, then once a minute how many there were.
#[derive(Default)]
struct Trouble {
    untold: u64,
    /// In boot time.
    told_at: Option<Duration>,
}

impl Trouble {
    fn tell(&mut self, error: &io::Error, now: Duration) {
        self.untold += 1;
        if self.told_at.is_some_and(|at| now < at + TELL_AFTER) {
            return;
        }
        tracing::warn!(
            error = error as &dyn std::error::Error,
            failures = self.untold,
            "Connections cannot be accepted at the moment; trying on"
        );
        *self = Self {
            untold: 0,
            told_at: Some(now),
        };
    }
}
