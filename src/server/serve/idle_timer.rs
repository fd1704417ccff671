//! Time limit of the wait for a request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Precision of the limit on a busy stream.
const TICK: Duration = Duration::from_secs(1);

/// Timer of the wait for a complete request. Resetting a timer for each of many requests a second would cost more than
/// the rest of this module. While requests arrive the timer ticks; after a tick without a request it runs once more, to
/// the limit.
#[derive(Debug)]
pub(super) struct IdleTimer {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    /// Number of requests when the timer was set.
    requests: u64,
    /// The timer runs to the limit, not to a tick.
    is_last: bool,
    /// The task is registered with the timer.
    is_armed: bool,
}

impl IdleTimer {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            timer: Box::pin(tokio::time::sleep(limit)),
            requests: 0,
            is_last: true,
            is_armed: false,
        }
    }

    /// Completes when the limit has passed since the last of `requests`. Only one task polls it.
    pub(super) fn poll(&mut self, requests: u64, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_last && requests != self.requests {
            self.requests = requests;
            self.is_last = false;
            self.set(now() + TICK.min(self.limit));
        }
        while !self.is_armed || self.timer.is_elapsed() {
            self.is_armed = true;
            ready!(self.timer.as_mut().poll(cx));
            if self.requests == requests {
                if self.is_last {
                    return Poll::Ready(());
                }
                self.is_last = true;
                self.set(self.timer.deadline() + self.limit.saturating_sub(TICK));
            } else {
                self.requests = requests;
                self.set(now() + TICK.min(self.limit));
            }
        }
        Poll::Pending
    }

    fn set(&mut self, deadline: Instant) {
        self.timer.as_mut().reset(deadline);
        self.is_armed = false;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the runtime's time, which its timers go by"
)]
fn now() -> Instant {
    Instant::now()
}
