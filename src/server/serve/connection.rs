//! One connection, from its first byte to its last.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tower::Service;

use super::parse_failure::{self, ParseFailure};
use super::progress::ConnectionProgress;
use super::request_head::FirstHead;
use super::slots::ConnectionSlot;
use super::socket::ClientSocket;
use super::stream::ClientStream;
use super::waiting::{self, WaitingRequest, Watchers};
use crate::app::App;
use crate::caller::Peer;
use crate::error::{ApiError, Reject};
use crate::guard::{self, Admission, Authorities};
use crate::log::access;
use crate::routes::router::router;
use crate::routes::{self, Route, RouteHandler, secret};

/// Time for a request head to be complete, and for an idle connection to send a request.
const HEAD_LIMIT: Duration = Duration::from_secs(15);

/// The same for a connection over the limit.
const OVERFLOW_HEAD_LIMIT: Duration = Duration::from_secs(1);

/// The same for a connection with an incomplete head at shutdown.
const LAST_HEAD_LIMIT: Duration = Duration::from_secs(1);

/// Bytes that a request head may have; the limits of the guard are lower. The limit of 100 headers is the default of
/// hyper; an explicit limit would allocate for each request.
const MAX_HEAD_BYTES: usize = 104 * 1024;

/// Time and bytes for which the rest of the client's data is read after the last response.
const LINGER_LIMIT: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// State that all connections share.
pub(super) struct Context {
    pub(super) app: Arc<App>,
    pub(super) watchers: Arc<Watchers>,
    router: Router,
    authorities: Authorities,
}

impl Context {
    pub(super) fn new(app: Arc<App>, authorities: Authorities, watchers: &Arc<Watchers>) -> Self {
        Self {
            router: router(Arc::clone(&app)),
            watchers: Arc::clone(watchers),
            app,
            authorities,
        }
    }

    /// Returns the boot time.
    pub(super) fn now(&self) -> Duration {
        self.app.service.timeline().clock().boot()
    }
}

/// Serves the connection until it ends. When it must leave its slot, complete requests are answered and an idle
/// connection is closed at once. An incomplete request gets a second to be completed, unless a newcomer waits for the slot.
/// Returns a request that waits for a change, which needs the connection no longer but its socket.
pub(super) async fn run(
    context: Arc<Context>,
    socket: ClientSocket,
    peer: Peer,
    slot: ConnectionSlot,
) -> Option<(Box<WaitingRequest>, ClientSocket, Peer)> {
    let progress = ConnectionProgress::default();
    let handed_over = HandedOver::default();
    let head_limit = if slot.is_overflow() {
        OVERFLOW_HEAD_LIMIT
    } else {
        HEAD_LIMIT
    };
    context.app.access.examine(&peer).await;
    if context.app.access.knows(&peer) {
        // Its credentials count as a token.
        slot.begin_answer();
        slot.note_token();
    }
    let first_head = FirstHead::new(&context.app, &peer);
    let mut stream = ClientStream::new(socket, &progress, &slot, first_head, head_limit);
    let result = {
        let service =
            service_fn(|request| respond(&context, &slot, &peer, &progress, &handed_over, request));
        let connection = http1::Builder::new()
            // The stream has its own time limits.
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD_BYTES)
            .keep_alive(!slot.is_overflow())
            // A client that has closed its sending side gets its answer; the stream notices a reset itself.
            .half_close(true)
            .serve_connection(TokioIo::new(&mut stream), service);
        let mut connection = pin!(connection);
        tokio::select! {
            biased;
            result = connection.as_mut() => result,
            () = slot.left() => {
                progress.leaving.store(true, Ordering::Relaxed);
                let already = poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx))).await;
                match already {
                    Poll::Ready(result) => result,
                    // Another connection has the slot.
                    Poll::Pending if slot.is_evicted() => Ok(()),
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
    let waiting = handed_over.0.into_inner();
    if let Some(request) = waiting.unwrap_or_else(PoisonError::into_inner) {
        return Some((request, stream.into_socket(), peer));
    }
    if let Err(error) = result {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            peer.port = peer.port(),
            "Connection ended early"
        );
        // The parser writes no response to HTTP/2.
        let unread = || {
            error
                .is_parse()
                .then_some(ParseFailure::Parser(StatusCode::BAD_REQUEST))
        };
        if let Some(refusal) = stream.take_refusal().or_else(unread) {
            slot.begin_answer();
            let error = refusal.into_error(&error.to_string());
            refuse(&context, &mut stream, &peer, &error).await;
        }
    }
    slot.end_answers();
    if stream.is_closed() {
        linger(stream, &slot).await;
    }
    None
}

/// Request that leaves its connection to wait for a change.
#[derive(Default)]
struct HandedOver(Mutex<Option<Box<WaitingRequest>>>);

/// Error that ends the work of hyper on a connection, because its request was handed over.
#[derive(Debug, thiserror::Error)]
#[error("the request waits for a change")]
struct LeavesConnection;

/// Answers bytes that are not a request.
async fn refuse(context: &Context, stream: &mut ClientStream<'_>, peer: &Peer, error: &ApiError) {
    let app = &context.app;
    context.app.access.note_refusal(&error.code);
    app.metrics.count(error.status);
    // The path is unknown, and most requests are for a secret.
    let response = app.settings.response_type.error(error);
    if access::is_logged() {
        access::log(&response, peer, Duration::ZERO);
    }
    // The client may have gone.
    let _ = stream
        .refuse(&parse_failure::response_bytes(response).await)
        .await;
}

/// Waits for the client to close as well. Closing with unread bytes would reset the connection, and the client might
/// never see the response.
async fn linger(mut stream: ClientStream<'_>, slot: &ConnectionSlot) {
    let mut limit = LINGER_BYTES;
    tokio::select! {
        biased;
        () = poll_fn(|cx| stream.poll_drain(cx, &mut limit)) => {}
        () = slot.left() => {}
        () = tokio::time::sleep(LINGER_LIMIT) => {}
    }
}

async fn respond(
    context: &Context,
    slot: &ConnectionSlot,
    peer: &Peer,
    progress: &ConnectionProgress,
    handed_over: &HandedOver,
    request: Request<Incoming>,
) -> Result<Response<Either<Full<Bytes>, Body>>, LeavesConnection> {
    progress.begin_answer();
    let app = &context.app;
    let began_at = access::is_logged().then(|| context.now());
    let (parts, _body) = request.into_parts();
    let version = parts.version;
    let route = routes::find(parts.uri.path(), &app.settings.path_prefix);
    let format = app.settings.error_format(route);
    let admission = admit(context, slot, &parts, route, peer).await;
    // While a wrong token waits for the token file to be read, the connection may still give way.
    slot.begin_answer();
    let (is_known, mut response) = match admission {
        Ok(Admission::Known(caller)) => {
            let response = if let Some(form) = secret::form_of(route, &parts.method) {
                // Nearly every request. The router would allocate several boxes for it.
                secret::answer(app, form, parts, &caller)
                    .await
                    .map(Either::Left)
            } else if is_watch(route, &parts.method) {
                match waiting::begin(context, &caller, &parts) {
                    Ok(response) => response.map(Either::Left),
                    Err(request) => {
                        let place = handed_over.0.lock();
                        *place.unwrap_or_else(PoisonError::into_inner) = Some(request);
                        return Err(LeavesConnection);
                    }
                }
            } else {
                let mut request = Request::from_parts(parts, Body::empty());
                request.extensions_mut().insert(caller);
                let Ok(response) = context.router.clone().call(request).await;
                response.map(Either::Right)
            };
            (true, response)
        }
        Ok(Admission::Health) => {
            let request = Request::from_parts(parts, Body::empty());
            let Ok(response) = context.router.clone().call(request).await;
            (false, response.map(Either::Right))
        }
        Err(error) => {
            context.app.access.note_refusal(&error.code);
            (false, format.error(&error).map(Either::Left))
        }
    };
    if is_known {
        slot.note_token();
    }
    if !is_known || progress.leaving.load(Ordering::Relaxed) {
        // A caller without the token gets a response, and the connection is closed.
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        // In answer to HTTP/1.0 with `Connection: keep-alive` hyper would add that to an answer of HTTP/1.1.
        *response.version_mut() = version;
    }
    app.metrics.count(response.status());
    if let Some(began_at) = began_at {
        access::log(&response, peer, context.now().saturating_sub(began_at));
    }
    progress.end_answer();
    Ok(response)
}

fn is_watch(route: Option<&Route>, method: &Method) -> bool {
    *method == Method::GET && route.is_some_and(|route| route.handler == RouteHandler::Watch)
}

async fn admit(
    context: &Context,
    slot: &ConnectionSlot,
    parts: &http::request::Parts,
    route: Option<&Route>,
    peer: &Peer,
) -> Result<Admission, ApiError> {
    if slot.is_overflow() && route.is_none_or(|route| route.needs_token) {
        let mut error = Reject::TooManyConnections.because(format!(
            "All {} connections that Server.MaxConn allows are in use; close idle ones or try again.",
            context.app.settings.max_conn
        ));
        error.retry_after = Some(Duration::from_secs(1));
        return Err(error);
    }
    guard::admit(&context.app, context.authorities, parts, route, peer).await
}
