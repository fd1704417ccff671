//! A client's stream as the server wants it: answers must be taken in time, and the end is orderly.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// How long an answer may take to be taken.
const TAKE_LIMIT: Duration = Duration::from_secs(10);

/// How long, and for how many bytes, the client's leftovers are read after the last answer. Closing with
/// unread bytes would reset the connection, and the client might never see the answer.
const LINGER_LIMIT: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// A TCP stream with those two manners.
#[derive(Debug)]
pub(super) struct ClientStream {
    tcp: TcpStream,
    /// Runs from the first moment that an answer could not be written on until all of it has been.
    taking: Option<Pin<Box<Sleep>>>,
    /// Runs once our side is closed.
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
}

impl ClientStream {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self {
            tcp,
            taking: None,
            lingering: None,
        }
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
        let taking = self
            .taking
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(TAKE_LIMIT)));
        ready!(taking.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientStream {
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
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.tcp).poll_shutdown(cx))?;
        }
        let (limit, seen) = this
            .lingering
            .get_or_insert_with(|| (Box::pin(tokio::time::sleep(LINGER_LIMIT)), 0));
        let mut scrap = [0; 4096];
        while *seen < LINGER_BYTES {
            let mut scrap = ReadBuf::new(&mut scrap);
            match Pin::new(&mut this.tcp).poll_read(cx, &mut scrap) {
                Poll::Ready(Ok(())) if !scrap.filled().is_empty() => *seen += scrap.filled().len(),
                // The end, or an error that makes no difference any more.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    ready!(limit.as_mut().poll(cx));
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
