//! HTTP client of the commands that talk to a running agent: loopback only, never through a proxy.

pub(crate) mod port_holder;

use std::net::Ipv4Addr;
#[cfg(unix)]
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use kms_agent_server::KMS_MEDIA_TYPE;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use self::port_holder::{TrustedUsers, Uid};
use crate::exit::Failure;

/// Time limit of a request. The agent answers within ten seconds whatever KMS does.
const LIMIT: Duration = Duration::from_secs(15);

/// Size limit of a response: KMS responses have at most 1 MiB.
const MAX_ANSWER: usize = 2 * 1024 * 1024;

/// Response of a running agent.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Reply {
    /// Returns code and message of an error.
    pub(crate) fn error(&self) -> Option<(String, String)> {
        kms_agent_server::read_error(&self.body)
    }

    /// Returns the error of the response as a failure.
    pub(crate) fn refusal(&self) -> Failure {
        Failure::failed(match self.error() {
            Some((code, message)) => format!("{code}: {message}"),
            None => format!("the agent answered {}", self.status),
        })
    }
}

/// Client of a running agent.
pub(crate) struct Client {
    pub(crate) port: u16,
    /// Unix socket, in place of the port.
    pub(crate) socket: Option<PathBuf>,
    /// Users whose processes may be the agent; `None` accepts every process.
    pub(crate) trusted: Option<TrustedUsers>,
    /// Token for the agent; health needs none.
    pub(crate) token: Option<ShownToken>,
}

/// Token and the header that carries it.
pub(crate) struct ShownToken {
    pub(crate) header: HeaderName,
    pub(crate) token: Zeroizing<Vec<u8>>,
}

impl Client {
    /// Requests `target`, which is a path and query.
    pub(crate) fn get(&self, target: &str) -> Result<Reply, Failure> {
        self.send(&Method::GET, target, LIMIT)
    }

    /// Requests `target`, a secret, in the format of KMS: only that has every value byte for byte. An agent that does
    /// not know this request answers in the format of its ResponseType.
    pub(crate) fn get_as_kms(&self, target: &str) -> Result<Reply, Failure> {
        block_on(self.ask_as_kms(target))
    }

    /// Sends a POST to `target`, which is a path and query.
    pub(crate) fn post(&self, target: &str) -> Result<Reply, Failure> {
        self.send(&Method::POST, target, LIMIT)
    }

    /// Requests `target`, which needs no call to KMS, within `limit`.
    pub(crate) fn probe(&self, target: &str, limit: Duration) -> Result<Reply, Failure> {
        self.send(&Method::GET, target, limit)
    }

    fn send(&self, method: &Method, target: &str, limit: Duration) -> Result<Reply, Failure> {
        run(limit, self.ask(method, target))
    }

    /// As [`get_as_kms`](Self::get_as_kms), for callers inside a runtime.
    pub(crate) async fn ask_as_kms(&self, target: &str) -> Result<Reply, Failure> {
        within(
            LIMIT,
            self.exchange(&Method::GET, target, Some(KMS_MEDIA_TYPE)),
        )
        .await
    }

    /// Requests `target`, which the agent answers after `wait` at the latest.
    #[cfg(unix)]
    pub(crate) async fn wait_for(&self, target: &str, wait: Duration) -> Result<Reply, Failure> {
        within(wait + LIMIT, self.ask(&Method::GET, target)).await
    }

    /// Sends one request without a time limit.
    pub(crate) async fn ask(&self, method: &Method, target: &str) -> Result<Reply, Failure> {
        self.exchange(method, target, None).await
    }

    /// Refuses a process of another user, which would collect the token and could answer as it likes.
    fn check(&self, users: impl IntoIterator<Item = Uid>) -> Result<(), Failure> {
        let place = match &self.socket {
            Some(path) => format!("the socket {}", path.display()),
            None => format!("port {}", self.port),
        };
        let Some(trusted) = &self.trusted else {
            return Ok(());
        };
        match users.into_iter().find(|user| !trusted.contains(*user)) {
            None => Ok(()),
            Some(stranger) => Err(Failure::failed(format!(
                "{place} is held by a process of {}, which is not the agent's user as far as is known here; nothing was \
                 sent. If that user runs the agent, name it with --agent-user or KMS_AGENT_USER",
                port_holder::name_of(stranger)
            ))),
        }
    }

    async fn exchange(
        &self,
        method: &Method,
        target: &str,
        accept: Option<&'static str>,
    ) -> Result<Reply, Failure> {
        #[cfg(unix)]
        if let Some(path) = &self.socket {
            return self.exchange_at(path, method, target, accept).await;
        }
        let port = self.port;
        let unreachable = |error: &dyn std::fmt::Display| {
            Failure::failed(format!(
                "no agent answers on 127.0.0.1:{port} ({error}). Is it running, and on this port?"
            ))
        };
        self.check(port_holder::listening_on(port))?;
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(|error| unreachable(&error))?;
        // The listener may have changed since. Linux before 6.17 shows uid 0 for a connection that was not accepted yet,
        // so the listener is looked up once more, too.
        let local = stream.local_addr().map_err(|error| unreachable(&error))?;
        self.check(port_holder::serving(port, local.port()))?;
        self.check(port_holder::listening_on(port))?;
        let host = format!("127.0.0.1:{port}");
        self.converse(stream, &host, method, target, accept, &unreachable)
            .await
    }

    /// As [`exchange`](Self::exchange), through the Unix socket at `path`.
    #[cfg(unix)]
    async fn exchange_at(
        &self,
        path: &Path,
        method: &Method,
        target: &str,
        accept: Option<&'static str>,
    ) -> Result<Reply, Failure> {
        let unreachable = |error: &dyn std::fmt::Display| {
            Failure::failed(format!(
                "no agent answers on the socket {} ({error}). Is it running, and with this Server.SocketPath?",
                path.display()
            ))
        };
        let stream = tokio::net::UnixStream::connect(path)
            .await
            .map_err(|error| unreachable(&error))?;
        let user = stream.peer_cred().map_err(|error| unreachable(&error))?;
        self.check([user.uid()])?;
        self.converse(stream, "localhost", method, target, accept, &unreachable)
            .await
    }

    async fn converse(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: &str,
        method: &Method,
        target: &str,
        accept: Option<&'static str>,
        unreachable: &impl Fn(&dyn std::fmt::Display) -> Failure,
    ) -> Result<Reply, Failure> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(&error))?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, host);
        if let Some(shown) = &self.token {
            request = request.header(&shown.header, shown.token.as_slice());
        }
        if let Some(accept) = accept {
            request = request.header(header::ACCEPT, accept);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| Failure::usage(format!("this cannot be asked for: {error}")))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| Failure::failed(format!("the agent's answer broke off: {error}")))?;
        connection.abort();
        Ok(Reply {
            status,
            body: Zeroizing::new(body.to_bytes().to_vec()),
        })
    }
}

/// Waits for `exchange`, for at most `limit`.
fn run(
    limit: Duration,
    exchange: impl Future<Output = Result<Reply, Failure>>,
) -> Result<Reply, Failure> {
    block_on(within(limit, exchange))
}

/// Runs `work` in a runtime of its own, on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the runtime cannot be started: {error}")))?
        .block_on(work)
}

async fn within(
    limit: Duration,
    exchange: impl Future<Output = Result<Reply, Failure>>,
) -> Result<Reply, Failure> {
    tokio::time::timeout(limit, exchange)
        .await
        .unwrap_or_else(|_| Err(Failure::failed("the agent did not answer in time")))
}
