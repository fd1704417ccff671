//! A response body that can be slow, too long, or cut.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Sleep, sleep};

/// Spaces after an oversized answer: more than any client should read.
const PADDING: usize = 2 * 1024 * 1024;
const PADDING_PIECE: usize = 64 * 1024;
const SLOW_PIECES: usize = 16;

/// Way of sending a body.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Delivery {
    /// Unchanged.
    Whole,
    /// The announced length, the first half, then the end of the connection.
    CutHalfway,
    /// In small pieces, with this pause before each.
    Slow(Duration),
    /// Followed by megabytes of spaces, without an announced length. JSON stays valid.
    Oversize,
}

/// Error that makes hyper close a connection without the rest of an answer.
#[derive(Debug)]
pub(crate) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is cut, as ordered")
    }
}

impl std::error::Error for Cut {}

enum BodyStep {
    Data(Bytes),
    Pause(Duration),
    /// Lets hyper flush its buffer before the next step.
    Flush,
    Fail,
}

/// A body that is sent step by step.
pub(crate) struct Paced {
    steps: VecDeque<BodyStep>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    /// Creates `body`, to be sent as `delivery` says.
    pub(crate) fn new(body: Vec<u8>, delivery: Delivery) -> Self {
        let mut body = Bytes::from(body);
        let mut steps = VecDeque::new();
        match delivery {
            Delivery::Whole => steps.push_back(BodyStep::Data(body)),
            Delivery::CutHalfway => {
                body.truncate(body.len() / 2);
                steps.extend([BodyStep::Data(body), BodyStep::Flush, BodyStep::Fail]);
            }
            Delivery::Slow(pause) => {
                let size = body.len().div_ceil(SLOW_PIECES).max(1);
                for piece in body.chunks(size) {
                    steps.push_back(BodyStep::Pause(pause));
                    steps.push_back(BodyStep::Data(Bytes::copy_from_slice(piece)));
                }
            }
            Delivery::Oversize => {
                let padding = Bytes::from(vec![b' '; PADDING_PIECE]);
                let pieces = std::iter::repeat_n(padding, PADDING / PADDING_PIECE);
                steps.push_back(BodyStep::Data(body));
                steps.extend(pieces.map(BodyStep::Data));
            }
        }
        Self { steps, pause: None }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.pause = None;
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(BodyStep::Data(data)) if data.is_empty() => {}
                Some(BodyStep::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(BodyStep::Pause(pause)) => self.pause = Some(Box::pin(sleep(pause))),
                Some(BodyStep::Flush) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(BodyStep::Fail) => return Poll::Ready(Some(Err(Cut))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.pause.is_none()
    }
}
