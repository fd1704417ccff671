//! Gate that lets format and file change only between two lines.

use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Open while lines are formatted and queued; closed while format and file are exchanged. Otherwise a line could be
/// formatted for one file and queued for the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<RwLock<()>>);

impl Gate {
    /// Waits for lines in progress, and makes others wait.
    pub(super) fn shut(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a layer whose lines pass the gate.
    pub(super) fn before<L>(&self, layer: L) -> Gated<L> {
        Gated {
            gate: self.clone(),
            layer,
        }
    }
}

/// Layer behind a gate.
#[derive(Debug)]
pub(super) struct Gated<L> {
    gate: Gate,
    layer: L,
}

/// The agent creates no spans, so their methods are not forwarded.
impl<S: Subscriber, L: Layer<S>> Layer<S> for Gated<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let _open = self.gate.0.read().unwrap_or_else(PoisonError::into_inner);
        self.layer.on_event(event, context);
    }
}
