//! How far a server's clock is from this machine's.

use kms_agent_core::Timestamp;

use crate::http::HttpResponse;
use crate::wire::parse_http_date;

/// The largest difference between two clocks that are kept right: a third of what KMS tolerates.
const AGREEMENT_MILLIS: u64 = 5 * 60 * 1000;

/// How many milliseconds the server's clock is ahead of the wall.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Skew(i64);

impl Skew {
    /// What the answer's `Date` says, where it has one.
    pub(crate) fn measure(response: &HttpResponse, wall: Timestamp) -> Option<Self> {
        let date = response.header("date").and_then(parse_http_date)?;
        Some(Self(date.as_millis().saturating_sub(wall.as_millis())))
    }

    /// Whether the two clocks agree, as clocks that are kept right do.
    pub(crate) fn is_slight(self) -> bool {
        self.0.unsigned_abs() <= AGREEMENT_MILLIS
    }

    /// How many milliseconds the server's clock is ahead; less than none when it is behind.
    pub(crate) fn ahead_millis(self) -> i64 {
        self.0
    }

    /// The server's time when the wall says `wall`, as requests write it; `None` outside years 0 to 9999.
    pub(crate) fn date(self, wall: Timestamp) -> Option<String> {
        Timestamp::from_millis(wall.as_millis().saturating_add(self.0)).to_rfc3339()
    }
}
