//! A client with its own signing code, which can sign wrongly.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use kms_agent_emulator::{AccessKey, Emulator, Options, SessionCredentials};
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) fn start() -> Emulator {
    Emulator::start(Options::default()).unwrap()
}

/// An outgoing request.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Outgoing {
    pub(crate) fn new(method: &'static str, target: &str) -> Self {
        Self {
            method,
            target: target.to_owned(),
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// Sets or replaces a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    fn bytes(&self, endpoint: &str) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name == "host") {
            write!(text, "host: {endpoint}\r\n").unwrap();
        }
        for (name, value) in &self.headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        let length = self.body.len();
        write!(
            text,
            "connection: close\r\ncontent-length: {length}\r\n\r\n{}",
            self.body
        )
        .unwrap();
        text.into_bytes()
    }

    pub(crate) async fn send(&self, emulator: &Emulator) -> Received {
        let stream = TcpStream::connect(emulator.address()).await.unwrap();
        self.send_over(stream, emulator.endpoint()).await
    }

    pub(crate) async fn send_over(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        endpoint: &str,
    ) -> Received {
        stream.write_all(&self.bytes(endpoint)).await.unwrap();
        let mut bytes = Vec::new();
        // A cut connection may end in an error; the bytes before it count.
        let _ = stream.read_to_end(&mut bytes).await;
        Received::parse(&bytes)
    }
}

/// Bytes received until the connection ended.
#[derive(Debug)]
pub(crate) struct Received {
    /// `None` if nothing was received.
    pub(crate) status: Option<u16>,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Received {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end else {
            return Self {
                status: None,
                head: String::new(),
                body: bytes.to_vec(),
            };
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
        let body = bytes[end + 4..].to_vec();
        Self { status, head, body }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The status and the `Code` of an error.
    pub(crate) fn error(&self) -> (u16, String) {
        let code = self.json()["Code"].as_str().unwrap().to_owned();
        (self.status.unwrap(), code)
    }
}

/// Parts of a signature.
pub(crate) struct Signer {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
    pub(crate) action: &'static str,
    pub(crate) version: &'static str,
    pub(crate) date: String,
    pub(crate) nonce: String,
    pub(crate) sign_host: bool,
    /// Further signed headers.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    parameters: Vec<(String, String)>,
}

impl Signer {
    pub(crate) fn new(key: &AccessKey) -> Self {
        static NONCE: AtomicU64 = AtomicU64::new(0);
        Self {
            id: key.id().to_owned(),
            secret: key.expose_secret().to_owned(),
            token: None,
            action: "GetSecretValue",
            version: "2016-01-20",
            date: date(SystemTime::now()),
            nonce: format!("{:032}", NONCE.fetch_add(1, Ordering::Relaxed)),
            sign_host: true,
            headers: Vec::new(),
            body: String::new(),
            parameters: Vec::new(),
        }
    }

    pub(crate) fn session(session: &SessionCredentials) -> Self {
        let key = AccessKey::new(session.id(), session.expose_secret());
        let mut signer = Self::new(&key);
        signer.token = Some(session.expose_token().to_owned());
        signer
    }

    pub(crate) fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn sign(&self, endpoint: &str) -> Outgoing {
        let mut sorted = self.parameters.clone();
        sorted.sort();
        let query: Vec<String> = sorted
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        let query = query.join("&");
        let digest = hex(&Sha256::digest(&self.body));

        let mut headers = self.headers.clone();
        headers.extend(
            [
                ("host", endpoint),
                ("x-acs-action", self.action),
                ("x-acs-content-sha256", &digest),
                ("x-acs-date", &self.date),
                ("x-acs-signature-nonce", &self.nonce),
                ("x-acs-version", self.version),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        if let Some(token) = &self.token {
            headers.push(("x-acs-accesskey-id".to_owned(), self.id.clone()));
            headers.push(("x-acs-security-token".to_owned(), token.clone()));
        }
        headers.sort();
        let signed: Vec<&(String, String)> = headers
            .iter()
            .filter(|(name, _)| self.sign_host || name != "host")
            .collect();
        let names: Vec<&str> = signed.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let mut canonical = format!("POST\n/\n{query}\n");
        for (name, value) in &signed {
            writeln!(canonical, "{name}:{value}").unwrap();
        }
        write!(canonical, "\n{names}\n{digest}").unwrap();

        let string = format!("ACS3-HMAC-SHA256\n{}", hex(&Sha256::digest(&canonical)));
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).unwrap();
        mac.update(string.as_bytes());
        let signature = hex(&mac.finalize().into_bytes());
        headers.push((
            "authorization".to_owned(),
            format!(
                "ACS3-HMAC-SHA256 Credential={},SignedHeaders={names},Signature={signature}",
                self.id
            ),
        ));
        let mut request = Outgoing::new("POST", &format!("/?{query}"));
        request.headers = headers;
        request.body.clone_from(&self.body);
        request
    }

    pub(crate) async fn send(&self, emulator: &Emulator) -> Received {
        self.sign(emulator.endpoint()).send(emulator).await
    }
}

/// Requests the current version of a secret with a valid signature.
pub(crate) async fn read(emulator: &Emulator, name: &str) -> Received {
    Signer::new(emulator.access_key())
        .parameter("SecretName", name)
        .send(emulator)
        .await
}

pub(crate) fn date(at: SystemTime) -> String {
    OffsetDateTime::from(at)
        .format(format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second]Z"
        ))
        .unwrap()
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").unwrap();
        }
        text
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
