//! A client's stream as the server wants it: requests must come and answers must be taken in time, nothing that was
//! sent before the end is overlooked, and the end is orderly.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// How long an answer may take to be taken.
const TAKE_LIMIT: Duration = Duration::from_secs(10);

/// How far a connection is, for its stream and its end.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The client will not be listened to any longer than it has spoken already.
    pub(super) leaving: AtomicBool,
    /// A request is whole and has no answer yet.
    answering: AtomicBool,
    /// How many requests have become whole.
    requests: AtomicU64,
    /// Some of an answer could not be written yet.
    writing: AtomicBool,
}

impl Progress {
    /// A request is whole.
    pub(super) fn begin_answer(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.answering.store(true, Ordering::Relaxed);
    }

    /// Its answer is there, and can be written.
    pub(super) fn end_answer(&self) {
        self.answering.store(false, Ordering::Relaxed);
    }

    /// Whether the client is waiting for something, and not the other way round.
    pub(super) fn is_owing(&self) -> bool {
        self.answering.load(Ordering::Relaxed) || self.writing.load(Ordering::Relaxed)
    }
}

/// A TCP stream with those manners.
#[derive(Debug)]
pub(super) struct ClientStream<'a> {
    tcp: TcpStream,
    progress: &'a Progress,
    wait: Wait,
    /// Runs from the first moment that an answer could not be written on until all of it has been.
    taking: Option<Pin<Box<Sleep>>>,
    /// Our side is closed, and all there was to say has been written.
    is_closed: bool,
}

impl<'a> ClientStream<'a> {
    /// `head_limit` is how long a request may take to come whole, and how long the stream may be idle.
    pub(super) fn new(tcp: TcpStream, progress: &'a Progress, head_limit: Duration) -> Self {
        Self {
            tcp,
            progress,
            wait: Wait::new(head_limit),
            taking: None,
            is_closed: false,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Reads what the client still sends and drops it, `limit` bytes at most, until the client closes too.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>, limit: &mut usize) -> Poll<()> {
        let mut scrap = [0; 4096];
        while *limit > 0 {
            let mut scrap = ReadBuf::new(&mut scrap);
            let outcome = ready!(Pin::new(&mut *self).poll_read(cx, &mut scrap));
            // An error is an end like any other.
            if outcome.is_err() || scrap.filled().is_empty() {
                break;
            }
            *limit = limit.saturating_sub(scrap.filled().len());
        }
        Poll::Ready(())
    }

    /// Passes on the outcome of a write, unless it has been pending for too long.
    fn in_time<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            return outcome;
        }
        self.progress.writing.store(true, Ordering::Relaxed);
        let taking = self
            .taking
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(TAKE_LIMIT)));
        ready!(taking.as_mut().poll(cx));
        // What the system still holds for the client is thrown away with the connection. Failing that, the
        // system holds it for a while.
        let _ = self.tcp.set_zero_linger();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Whether the client has closed its side, so that nobody waits for the answer under way. If not, `cx` is
    /// woken when it does.
    fn has_left(&self, cx: &mut Context<'_>) -> bool {
        let mut byte = [0];
        match self.tcp.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Ok(length)) => length == 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }

    /// Asks the system itself for what has arrived, which the runtime may not have heard of yet.
    fn read_what_is_there(&self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // The runtime's sockets never wait.
        match recv(&self.tcp, buf.initialize_unfilled(), RecvFlags::empty()) {
            Ok((length, _)) => {
                buf.advance(length);
                Poll::Ready(Ok(()))
            }
            Err(rustix::io::Errno::AGAIN) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl AsyncRead for ClientStream<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.tcp).poll_read(cx, buf) {
            Poll::Pending if self.progress.leaving.load(Ordering::Relaxed) => {
                self.read_what_is_there(buf)
            }
            Poll::Pending if !self.progress.answering.load(Ordering::Relaxed) => {
                let requests = self.progress.requests.load(Ordering::Relaxed);
                ready!(self.wait.poll(requests, cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            outcome => outcome,
        }
    }
}

impl AsyncWrite for ClientStream<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.in_time(outcome, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.in_time(outcome, cx)
    }

    /// Without this hyper would copy every secret into a buffer of its own.
    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Flushed only after the last byte was written.
        self.taking = None;
        self.progress.writing.store(false, Ordering::Relaxed);
        if self.progress.answering.load(Ordering::Relaxed) && self.has_left(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
        self.is_closed = true;
        Poll::Ready(Ok(()))
    }
}

/// How exactly it is known since when a busy stream has been idle.
const TICK: Duration = Duration::from_secs(1);

/// The wait for a whole request, of which only the first after a pause looks at the clock: a timer moved on for each
/// of many requests a second would cost more than all else here. While they come it ticks; when none has come since the
/// last tick, it goes off once more at the end.
#[derive(Debug)]
struct Wait {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    /// How many requests had come when it was set.
    requests: u64,
    /// It goes off at the end of the wait, not at a tick.
    is_last: bool,
    /// It knows whom to wake.
    is_armed: bool,
}

impl Wait {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            timer: Box::pin(tokio::time::sleep(limit)),
            requests: 0,
            is_last: true,
            is_armed: false,
        }
    }

    /// Ready when the request after so many `requests` has been waited for long enough. Always polled by one task.
    fn poll(&mut self, requests: u64, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_last && requests != self.requests {
            self.requests = requests;
            self.is_last = false;
            self.set(now() + TICK.min(self.limit));
        }
        while !self.is_armed || self.timer.is_elapsed() {
            self.is_armed = true;
            ready!(self.timer.as_mut().poll(cx));
            if self.requests == requests {
                if self.is_last {
                    return Poll::Ready(());
                }
                self.is_last = true;
                self.set(self.timer.deadline() + self.limit.saturating_sub(TICK));
            } else {
                self.requests = requests;
                self.set(now() + TICK.min(self.limit));
            }
        }
        Poll::Pending
    }

    fn set(&mut self, deadline: Instant) {
        self.timer.as_mut().reset(deadline);
        self.is_armed = false;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the runtime's time, which its timers go by"
)]
fn now() -> Instant {
    Instant::now()
}
