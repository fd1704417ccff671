//! Count of begun connections, which tells whether a request reused one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

/// Counts what a client begins.
#[derive(Clone, Debug, Default)]
pub(super) struct Connects(Arc<AtomicU64>);

impl Connects {
    pub(super) fn begun(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl<S> Layer<S> for Connects {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            connects: self.clone(),
        }
    }
}

/// A connector that is counted.
#[derive(Clone, Debug)]
pub(super) struct Counted<S> {
    inner: S,
    connects: Connects,
}

impl<S: Service<R>, R> Service<R> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.connects.0.fetch_add(1, Ordering::AcqRel);
        self.inner.call(request)
    }
}
