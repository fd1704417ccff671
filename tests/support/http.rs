//! An HTTP client that sends any bytes, so that tests can send malformed requests.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Limit for an answer; generous, because only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(30);

/// An HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Names, in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Reply {
    /// Returns the value of a header, and panics if it occurs twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let value = values.next();
        assert!(values.next().is_none(), "{name} occurs twice");
        value.map(|(_, value)| value.as_str())
    }

    /// Returns the body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// Returns the body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// Sends a GET with a valid `Host` and `headers`, and reads the answer.
pub fn get(port: u16, target: &str, headers: &[(&str, &str)]) -> Reply {
    let headers: String = headers
        .iter()
        .map(|(name, value)| [name, ": ", value, "\r\n"].concat())
        .collect();
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost:{port}\r\n{headers}Connection: close\r\n\r\n"
    );
    send(port, request.as_bytes()).expect("the agent answers")
}

/// Sends `bytes` unchanged and reads one answer.
pub fn send(port: u16, bytes: &[u8]) -> io::Result<Reply> {
    let mut connection = Connection::open(port)?;
    connection.send(bytes)?;
    connection.reply()
}

/// Sends a HEAD request, whose answer announces a body and has none.
pub fn send_head(port: u16, bytes: &[u8]) -> io::Result<Reply> {
    let mut connection = Connection::open(port)?;
    connection.send(bytes)?;
    connection.reply_to_head()
}

/// A connection on which a test may send any bytes at any time.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Received bytes that do not belong to a reply yet.
    unread: Vec<u8>,
}

impl Connection {
    /// Connects to 127.0.0.1.
    pub fn open(port: u16) -> io::Result<Self> {
        Self::open_at((Ipv4Addr::LOCALHOST, port))
    }

    /// Connects to any address.
    pub fn open_at(address: impl ToSocketAddrs) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            unread: Vec::new(),
        })
    }

    /// Returns the socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends `bytes` unchanged.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads one answer.
    pub fn reply(&mut self) -> io::Result<Reply> {
        self.read_reply(true)
    }

    /// Reads one answer to HEAD, which announces a body and has none.
    pub fn reply_to_head(&mut self) -> io::Result<Reply> {
        self.read_reply(false)
    }

    /// Waits until the other side closes or resets the connection, and returns the bytes that belong to no reply.
    pub fn end(mut self) -> Vec<u8> {
        loop {
            match self.read_more() {
                Ok(()) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                        return self.unread;
                    }
                    _ => panic!("the connection is not closed: {error}"),
                },
            }
        }
    }

    fn read_reply(&mut self, with_body: bool) -> io::Result<Reply> {
        let head = loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more()?;
        };
        let text = String::from_utf8_lossy(&self.unread[..head]).into_owned();
        let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1)?.parse().ok())
            .expect("a status line");
        let headers: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once(':').expect("a header line");
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        let length: usize = headers
            .iter()
            .find(|(name, _)| with_body && name == "content-length")
            .map_or(0, |(_, value)| value.parse().expect("a length"));
        while self.unread.len() < head + length {
            self.read_more()?;
        }
        let rest = self.unread.split_off(head + length);
        let body = std::mem::replace(&mut self.unread, rest).split_off(head);
        Ok(Reply {
            status,
            headers,
            body,
        })
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.unread.extend_from_slice(&chunk[..length]);
                Ok(())
            }
        }
    }
}
