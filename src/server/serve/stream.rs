//! Stream of a client with time limits on requests and on reading responses. Requests that arrived before shutdown are
//! still read. Responses that the parser itself writes are suppressed, because they have no text.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

use super::idle_timer::IdleTimer;
use super::parse_failure::ParseFailure;
use super::progress::ConnectionProgress;
use super::request_head::FirstHead;
use super::slots::ConnectionSlot;
use super::socket::ClientSocket;

/// Time in which the client must read a response.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Stream with these rules.
#[derive(Debug)]
pub(super) struct ClientStream<'a> {
    socket: ClientSocket,
    progress: &'a ConnectionProgress,
    slot: &'a ConnectionSlot,
    first_head: FirstHead<'a>,
    idle: IdleTimer,
    /// Number of requests whose responses are written.
    answered: u64,
    /// Reason why the received bytes are not a request, for [`ClientStream::refuse`].
    refusal: Option<ParseFailure>,
    /// Time limit on the response that is being written; set when a write was pending.
    read_timer: Option<Pin<Box<Sleep>>>,
    /// The sending side of the server is closed after everything was written.
    is_closed: bool,
}

impl<'a> ClientStream<'a> {
    /// `head_limit` is the time for a request to be complete, and the time that the stream may be idle.
    pub(super) fn new(
        socket: ClientSocket,
        progress: &'a ConnectionProgress,
        slot: &'a ConnectionSlot,
        first_head: FirstHead<'a>,
        head_limit: Duration,
    ) -> Self {
        Self {
            socket,
            progress,
            slot,
            first_head,
            idle: IdleTimer::new(head_limit),
            answered: 0,
            refusal: None,
            read_timer: None,
            is_closed: false,
        }
    }

    /// Returns the socket.
    pub(super) fn into_socket(self) -> ClientSocket {
        self.socket
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Takes the reason why the received bytes are not a request.
    pub(super) fn take_refusal(&mut self) -> Option<ParseFailure> {
        self.refusal.take()
    }

    /// Writes `answer` and closes the sending side.
    pub(super) async fn refuse(&mut self, answer: &[u8]) -> io::Result<()> {
        self.progress.begin_answer();
        self.progress.end_answer();
        self.write_all(answer).await?;
        self.shutdown().await
    }

    /// Reads and drops data of the client, at most `limit` bytes, until the client closes too.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>, limit: &mut usize) -> Poll<()> {
        let mut scrap = [0; 4096];
        while *limit > 0 {
            let mut scrap = ReadBuf::new(&mut scrap);
            let outcome = ready!(Pin::new(&mut *self).poll_read(cx, &mut scrap));
            // An error ends the connection too.
            if outcome.is_err() || scrap.filled().is_empty() {
                break;
            }
            *limit = limit.saturating_sub(scrap.filled().len());
        }
        Poll::Ready(())
    }

    /// Returns the outcome of a write, or an error if the write has been pending for too long.
    fn with_limit<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            return outcome;
        }
        self.progress.writing.store(true, Ordering::Relaxed);
        let read_timer = self
            .read_timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(READ_LIMIT)));
        ready!(read_timer.as_mut().poll(cx));
        self.socket.drop_unsent();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Checks whether the client is still connected while it waits for its response. A client that has closed its sending
    /// side gets the response. An error means that the connection is reset. `cx` is woken on a change.
    fn check_client(&self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.socket.poll_peek(cx) {
            Poll::Ready(Ok(0)) => self.slot.note_half_closed(),
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Ready(Ok(_)) | Poll::Pending => {}
        }
        Ok(())
    }

    /// Returns the status of a response that the parser itself writes, because there was no request.
    fn parser_status(&self, answer: &[u8]) -> Option<StatusCode> {
        if self.answered != self.progress.requests.load(Ordering::Relaxed) {
            return None;
        }
        let status = answer.strip_prefix(b"HTTP/1.")?.get(2..5)?;
        StatusCode::from_bytes(status).ok()
    }

    /// Reads from the system what has arrived and the runtime may not know of yet.
    fn read_arrived(&self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.socket.receive(buf.initialize_unfilled()) {
            Ok(length) => {
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
        let mut outcome = Pin::new(&mut self.socket).poll_read(cx, buf);
        if outcome.is_pending() && self.progress.leaving.load(Ordering::Relaxed) {
            outcome = self.read_arrived(buf);
        }
        let requests = self.progress.requests.load(Ordering::Relaxed);
        if outcome.is_ready() {
            if requests == 0
                && let Err(error) = self.first_head.take(buf.filled())
            {
                self.refusal = Some(ParseFailure::Own(error));
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            return outcome;
        }
        if !self.progress.answering.load(Ordering::Relaxed)
            && !self.progress.leaving.load(Ordering::Relaxed)
        {
            ready!(self.idle.poll(requests, cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl AsyncWrite for ClientStream<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(status) = self.parser_status(buf) {
            self.refusal = Some(ParseFailure::Parser(status));
            return Poll::Ready(Ok(buf.len()));
        }
        let outcome = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.with_limit(outcome, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(status) = bufs.first().and_then(|buf| self.parser_status(buf)) {
            self.refusal = Some(ParseFailure::Parser(status));
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let outcome = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.with_limit(outcome, cx)
    }

    /// Without this, hyper would copy every secret into a buffer of its own.
    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes only after the last byte was written.
        self.read_timer = None;
        self.progress.writing.store(false, Ordering::Relaxed);
        if self.progress.answering.load(Ordering::Relaxed) {
            self.check_client(cx)?;
        } else {
            self.answered = self.progress.requests.load(Ordering::Relaxed);
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.refusal.is_some() {
            // The parser has finished, and the response is still to be written.
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
        self.is_closed = true;
        Poll::Ready(Ok(()))
    }
}
