//! Socket of one connection: TCP, or the Unix socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// Socket of one connection.
#[derive(Debug)]
pub(super) enum ClientSocket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl ClientSocket {
    /// Makes the system drop unsent data when the socket is closed. It does so with that of a Unix socket anyway.
    pub(super) fn drop_unsent(&self) {
        match self {
            // If this fails, the system keeps the data for a while.
            Self::Tcp(tcp) => drop(tcp.set_zero_linger()),
            #[cfg(unix)]
            Self::Unix(_) => {}
        }
    }

    /// Receives without waiting, from the system and not from what the runtime knows.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Result<usize, rustix::io::Errno> {
        // The sockets of the runtime do not block.
        match self {
            Self::Tcp(tcp) => recv(tcp, buffer, RecvFlags::empty()),
            #[cfg(unix)]
            Self::Unix(unix) => recv(unix, buffer, RecvFlags::empty()),
        }
        .map(|(length, _)| length)
    }

    /// Waits for data or for the end of the client's side, and returns how much is there, at most 1.
    pub(super) fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut byte = [0];
        match self {
            Self::Tcp(tcp) => tcp.poll_peek(cx, &mut ReadBuf::new(&mut byte)),
            #[cfg(unix)]
            Self::Unix(unix) => loop {
                std::task::ready!(unix.poll_read_ready(cx))?;
                let peeked = unix.try_io(tokio::io::Interest::READABLE, || {
                    let (length, _) = recv(unix, &mut byte, RecvFlags::PEEK)?;
                    Ok(length)
                });
                match peeked {
                    // The readiness was out of date; the next turn waits.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    peeked => return Poll::Ready(peeked),
                }
            },
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            #[cfg(unix)]
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            #[cfg(unix)]
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, pieces),
            #[cfg(unix)]
            Self::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_write_vectored(),
            #[cfg(unix)]
            Self::Unix(unix) => unix.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            #[cfg(unix)]
            Self::Unix(unix) => Pin::new(unix).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            #[cfg(unix)]
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
        }
    }
}
