//! Requests that wait for a change of a secret.
//!
//! While it waits, a request has neither a slot nor the buffers of its connection: the connection's task has ended, and
//! a small one holds the socket. The answer is the last of its connection.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::request::Parts;
use kms_agent_cache::{Watch, WatchState};
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::connection::Context;
use super::parse_failure;
use super::socket::ClientSocket;
use crate::caller::{Caller, Peer};
use crate::error::{ApiError, Reject};
use crate::format::ResponseType;
use crate::guard::{self, ShownToken};
use crate::log::access::{self, Record};
use crate::response::FullResponse;
use crate::routes::{secret, watch};

/// Time in which the client must read the answer, and then close.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Limit on the requests that wait.
#[derive(Debug)]
pub(super) struct Watchers {
    limit: usize,
    waiting: AtomicUsize,
    gauge: Gauge,
}

/// Permission to wait; dropping it makes room for another.
#[derive(Debug)]
struct WatcherPermit(Arc<Watchers>);

impl Watchers {
    pub(super) fn new(limit: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self {
            limit,
            waiting: AtomicUsize::new(0),
            gauge,
        })
    }

    fn admit(self: &Arc<Self>) -> Option<WatcherPermit> {
        let one_more = |waiting| (waiting < self.limit).then_some(waiting + 1);
        self.waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        self.gauge.inc();
        Some(WatcherPermit(Arc::clone(self)))
    }
}

impl Drop for WatcherPermit {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.gauge.dec();
    }
}

/// A watched secret, and the version that the caller knows.
type WatchedVersion = (Watch, Option<Box<str>>);

/// A request that has to wait.
pub(super) struct WaitingRequest {
    secrets: Vec<WatchedVersion>,
    wait: Duration,
    tokens: Vec<ShownToken>,
    permit: WatcherPermit,
    record: Option<Record>,
    /// Boot time of its arrival, where access is logged.
    began_at: Option<Duration>,
}

/// Begins a watch. Returns the answer, or the request where it has to wait.
pub(super) fn begin(
    context: &Context,
    caller: &Caller,
    request: &Parts,
) -> Result<FullResponse, Box<WaitingRequest>> {
    match try_begin(context, caller, request) {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(waiting)) => Err(waiting),
        Err(error) => Ok(ResponseType::KMS.error(&error)),
    }
}

fn try_begin(
    context: &Context,
    caller: &Caller,
    request: &Parts,
) -> Result<Result<FullResponse, Box<WaitingRequest>>, ApiError> {
    let app = &context.app;
    let order = watch::parse(request.uri.query().unwrap_or_default())?;
    let region = app.service.region();
    let mut allowed = Vec::with_capacity(order.secrets.len());
    for (secret, _) in &order.secrets {
        secret::check_region(secret.id.arn(), region.as_deref())?;
        allowed.push(app.access.decide(caller, secret)?);
    }
    let since = order.secrets.iter().map(|(_, since)| since.clone());
    let mut secrets: Vec<WatchedVersion> = allowed
        .into_iter()
        .map(|allowed| app.watch(allowed))
        .zip(since)
        .collect();
    if let Some(response) = first_answer(&mut secrets) {
        return Ok(Ok(response));
    }
    let permit = context.watchers.admit().ok_or_else(|| too_many(context))?;
    let is_logged = access::is_logged();
    let record = |secret: &kms_agent_core::SecretRef| Record {
        secret: secret.id.as_str().to_owned(),
        version: secret.selector.to_string(),
        cache: "-".to_owned(),
    };
    let first = order.secrets.first().filter(|_| is_logged);
    Ok(Err(Box::new(WaitingRequest {
        secrets,
        wait: order.wait,
        tokens: guard::shown_tokens(app, request),
        permit,
        record: first.map(|(secret, _)| record(secret)),
        began_at: is_logged.then(|| context.now()),
    })))
}

fn too_many(context: &Context) -> ApiError {
    let mut error = Reject::TooManyWatchers.because(format!(
        "All {} requests that Server.MaxWatchers allows are waiting; try again later.",
        context.watchers.limit
    ));
    error.retry_after = Some(Duration::from_secs(1));
    error
}

/// Returns the answer of the first secret that has one.
fn first_answer(secrets: &mut [WatchedVersion]) -> Option<FullResponse> {
    secrets.iter_mut().find_map(|(secret, since)| {
        let state = secret.state();
        watch::answer(secret.secret(), since.as_deref(), &state)
    })
}

impl WaitingRequest {
    /// Waits, answers and closes the connection.
    pub(super) async fn finish(
        mut self: Box<Self>,
        context: Arc<Context>,
        mut socket: ClientSocket,
        peer: Peer,
        stop: CancellationToken,
    ) {
        let waits_for_change = self.secrets.iter().all(|(_, since)| since.is_some());
        let answer = tokio::select! {
            biased;
            answer = self.answer(&context, &peer, &stop) => Some(answer),
            is_gone = input_ended(&socket, waits_for_change) => (!is_gone).then(watch::unchanged),
        };
        let Some(mut response) = answer else {
            return;
        };
        context.app.metrics.count(response.status());
        if let Some(began_at) = self.began_at {
            if let Some(record) = self.record.take() {
                response.extensions_mut().insert(record);
            }
            access::log(&response, &peer, context.now().saturating_sub(began_at));
        }
        let bytes = parse_failure::response_bytes(response).await;
        let closed = async {
            socket.write_all(&bytes).await?;
            socket.shutdown().await
        };
        if let Ok(Ok(())) = tokio::time::timeout(WRITE_LIMIT, closed).await {
            // Closing with unread bytes would reset the connection, and the client might never see the answer.
            let mut scrap = [0; 256];
            let drained = async { while let Ok(1..) = socket.read(&mut scrap).await {} };
            let _ = tokio::time::timeout(CLOSE_LIMIT, drained).await;
        }
        drop(self.permit);
    }

    async fn answer(
        &mut self,
        context: &Context,
        peer: &Peer,
        stop: &CancellationToken,
    ) -> FullResponse {
        let mut rights = context.app.access.changed();
        let deadline = tokio::time::sleep(self.wait);
        let mut deadline = std::pin::pin!(deadline);
        loop {
            if stop.is_cancelled() {
                return watch::unchanged();
            }
            if let Err(error) = self.check_rights(context, peer) {
                return ResponseType::KMS.error(&error);
            }
            if let Some(response) = first_answer(&mut self.secrets) {
                return response;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = any_changed(&mut self.secrets) => {}
                _ = rights.changed() => {}
                () = deadline.as_mut() => return watch::unchanged(),
            }
        }
    }

    /// Decides once more: the caller may have lost its token or a right.
    fn check_rights(&self, context: &Context, peer: &Peer) -> Result<(), ApiError> {
        let access = &context.app.access;
        let tokens = self.tokens.iter().map(|token| token.as_slice());
        let caller = access
            .identify(tokens, peer)
            .ok_or_else(|| guard::unknown_caller(&context.app))?;
        for (secret, _) in &self.secrets {
            access.decide(&caller, secret.secret())?;
        }
        Ok(())
    }
}

/// Completes when the client has closed its sending side. Returns whether it has reset the connection.
async fn input_ended(socket: &ClientSocket, waits_for_change: bool) -> bool {
    match poll_fn(|cx| socket.poll_peek(cx)).await {
        Ok(0) if waits_for_change => false,
        Err(_) => true,
        // It has sent more, or still wants the version that there is.
        Ok(_) => std::future::pending().await,
    }
}

async fn any_changed(secrets: &mut [WatchedVersion]) {
    type Change<'w> = Pin<Box<dyn Future<Output = WatchState> + Send + 'w>>;
    let mut changes: Vec<Change<'_>> = secrets
        .iter_mut()
        .map(|(secret, _)| Box::pin(secret.changed()) as Change<'_>)
        .collect();
    poll_fn(|cx| {
        let mut changes = changes.iter_mut();
        if changes.any(|change| change.as_mut().poll(cx).is_ready()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
