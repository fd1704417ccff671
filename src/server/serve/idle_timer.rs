//! Time limit of the wait for a request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// How exactly it is known since when a busy stream has been idle.
const TICK: Duration = Duration::from_secs(1);

/// The wait for a whole request, of which only the first after a pause looks at the clock: a timer moved on for each
/// of many requests a second would cost more than all else here. While they come it ticks; when none has come since the
/// last tick, it goes off once more at the end.
#[derive(Debug)]
pub(super) struct IdleTimer {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    /// How many requests had come when it was set.
    requests: u64,
    /// It goes off at the end of the wait, not at a tick.
    is_last: bool,
    /// It knows whom to wake.
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

    /// Ready when the request after so many `requests` has been waited for long enough. Always polled by one task.
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
