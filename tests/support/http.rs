//! A client that sends what it is told to, byte for byte, so that tests can be impolite.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// For an answer to come; generous, because only a hang ever takes it.
const LIMIT: Duration = Duration::from_secs(30);

/// An answer as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header that occurs at most once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let value = values.next();
        assert!(values.next().is_none(), "{name} occurs twice");
        value.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// Sends a GET with a proper `Host` and `headers`, and reads the answer.
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

/// Sends `bytes` as they are and reads one answer.
pub fn send(port: u16, bytes: &[u8]) -> io::Result<Reply> {
    exchange(port, bytes, true)
}

/// The same for HEAD, whose answers announce a body and have none.
pub fn send_head(port: u16, bytes: &[u8]) -> io::Result<Reply> {
    exchange(port, bytes, false)
}

fn exchange(port: u16, bytes: &[u8], with_body: bool) -> io::Result<Reply> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    let head = loop {
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        read_more(&mut stream, &mut answer)?;
    };
    let text = String::from_utf8_lossy(&answer[..head]).into_owned();
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
    while answer.len() < head + length {
        read_more(&mut stream, &mut answer)?;
    }
    let body = answer[head..head + length].to_vec();
    Ok(Reply {
        status,
        headers,
        body,
    })
}

fn read_more(stream: &mut TcpStream, answer: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 16 * 1024];
    match stream.read(&mut chunk)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        length => {
            answer.extend_from_slice(&chunk[..length]);
            Ok(())
        }
    }
}
