//! One connection from its first byte to its last.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::reserve::Guest;
use super::stream::{ClientStream, Progress};
use crate::error::{ApiError, Reject};
use crate::guard::{self, Admission};
use crate::refusal::Refusals;
use crate::router::router;
use crate::routes::secret;
use crate::{App, access, render};

/// For a request head to be complete, and for an idle connection to say something.
const HEAD_LIMIT: Duration = Duration::from_secs(15);

/// The same for a connection over the limit.
const GUEST_HEAD_LIMIT: Duration = Duration::from_secs(1);

/// The same for one that has begun to speak when the end comes.
const LAST_HEAD_LIMIT: Duration = Duration::from_secs(1);

/// The bytes that a request head may have; the guard's own limits are tighter. More than 100 headers hyper refuses by
/// itself; told of the number it would prepare each of them for each request.
const MAX_HEAD_BYTES: usize = 104 * 1024;

/// How long, and for how many bytes, the client's leftovers are read after the last answer.
const LINGER_LIMIT: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What all connections share.
pub(super) struct Context {
    app: Arc<App>,
    router: Router,
    port: u16,
    refusals: Arc<Refusals>,
}

impl Context {
    pub(super) fn new(app: Arc<App>, port: u16) -> Self {
        Self {
            router: router(Arc::clone(&app)),
            app,
            port,
            refusals: Arc::default(),
        }
    }

    /// Tells of what was refused and not told of yet.
    pub(super) fn tell_refusals(&self) {
        self.refusals.tell();
    }

    /// Boot time.
    pub(super) fn now(&self) -> Duration {
        self.app.service.timeline().clock().boot()
    }
}

/// On which terms a connection is served.
pub(super) enum Terms {
    /// As the guard says.
    Full,
    /// Over the limit: one health answer or one 429.
    Reserve(Guest),
}

/// Serves the connection until it ends. When `leave` is cancelled it is ended gracefully: what the client has
/// sent by then is answered, an idle connection is closed at once, and half a request has a second to become one.
pub(super) async fn run(
    context: Arc<Context>,
    stream: TcpStream,
    peer_port: u16,
    terms: Terms,
    leave: CancellationToken,
) {
    let progress = Progress::default();
    let guest = matches!(terms, Terms::Reserve(_));
    let head_limit = if guest { GUEST_HEAD_LIMIT } else { HEAD_LIMIT };
    let mut stream = ClientStream::new(stream, &progress, head_limit);
    let result = {
        let service =
            service_fn(|request| respond(&context, &terms, peer_port, &progress, request));
        let connection = http1::Builder::new()
            // The stream has limits of its own.
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD_BYTES)
            .keep_alive(!guest)
            // The stream looks itself whether a waiting client has left; hyper would make a buffer for it.
            .half_close(true)
            .serve_connection(TokioIo::new(&mut stream), service);
        let mut connection = pin!(connection);
        tokio::select! {
            biased;
            result = connection.as_mut() => result,
            () = leave.cancelled() => {
                progress.leaving.store(true, Ordering::Relaxed);
                let already = poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx))).await;
                match already {
                    Poll::Ready(result) => result,
                    Poll::Pending => {
                        connection.as_mut().graceful_shutdown();
                        match tokio::time::timeout(LAST_HEAD_LIMIT, connection.as_mut()).await {
                            Ok(result) => result,
                            Err(_) if progress.is_owing() => connection.await,
                            // Nothing is owed to half a request.
                            Err(_) => Ok(()),
                        }
                    }
                }
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            peer.port = peer_port,
            "A connection ended early"
        );
        if error.is_parse() && !stream.is_closed() {
            // To HTTP/2 hyper does not say a word.
            let _ = stream.write_all(BAD_REQUEST).await;
            let _ = stream.shutdown().await;
        }
    }
    if let Terms::Reserve(guest) = &terms {
        guest.set_waiting(false);
    }
    if stream.is_closed() {
        linger(stream, &leave).await;
    }
}

/// Waits for the client to close as well. Closing with bytes of it unread would reset the connection, and the
/// client might never see the answer.
async fn linger(mut stream: ClientStream<'_>, leave: &CancellationToken) {
    let mut limit = LINGER_BYTES;
    tokio::select! {
        biased;
        () = poll_fn(|cx| stream.poll_drain(cx, &mut limit)) => {}
        () = leave.cancelled() => {}
        () = tokio::time::sleep(LINGER_LIMIT) => {}
    }
}

async fn respond(
    context: &Context,
    terms: &Terms,
    peer_port: u16,
    progress: &Progress,
    request: Request<Incoming>,
) -> Result<Response<Either<Full<Bytes>, Body>>, Infallible> {
    progress.begin_answer();
    let app = &context.app;
    let began_at = access::is_logged().then(|| context.now());
    let (parts, _body) = request.into_parts();
    let format = app.settings.format_of(parts.uri.path());
    let (admission, mut response) = match admit(context, terms, &parts).await {
        Ok(admission) => {
            let response = if let Some(route) = secret::route(&app.settings, &parts) {
                // Nearly every request. The router would box it several times over.
                secret::answer(app, route, parts).await.map(Either::Left)
            } else {
                let request = Request::from_parts(parts, Body::empty());
                let Ok(response) = context.router.clone().call(request).await;
                response.map(Either::Right)
            };
            (Some(admission), response)
        }
        Err(error) => {
            context.refusals.note(&error.code);
            (None, render::error(format, &error).map(Either::Left))
        }
    };
    if admission != Some(Admission::Token) || progress.leaving.load(Ordering::Relaxed) {
        // Who has shown no token gets an answer, not a connection to keep.
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    app.metrics.count(response.status());
    if let Some(began_at) = began_at {
        access::log(&response, peer_port, context.now().saturating_sub(began_at));
    }
    progress.end_answer();
    Ok(response)
}

async fn admit(
    context: &Context,
    terms: &Terms,
    parts: &http::request::Parts,
) -> Result<Admission, ApiError> {
    if let Terms::Reserve(guest) = terms {
        guest.set_waiting(true);
        if !guard::is_health(parts.uri.path()) {
            let mut error = Reject::TooManyConnections.because(format!(
                "All {} connections that Server.MaxConn allows are in use; close idle ones or try again.",
                context.app.settings.max_conn
            ));
            error.retry_after = Some(Duration::from_secs(1));
            return Err(error);
        }
    }
    guard::admit(&context.app, context.port, parts).await
}
