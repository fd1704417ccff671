//! A credentials URI: a service that renews what it hands out on a schedule of its own.

use crate::answer::Answer;
use crate::metadata::flat;
use crate::shared::Shared;

pub(crate) const PATH: &str = "/credentials";

/// Hands out one temporary key to all who ask, and draws another only when it has ended.
pub(crate) fn answer(shared: &Shared) -> Answer {
    let mut state = shared.state();
    let now = state.now();
    let current = state
        .handed_out
        .take()
        .filter(|credentials| now < credentials.expiration());
    let credentials = match current {
        Some(credentials) => credentials,
        None => state.issue_session(&shared.draw, None),
    };
    let answer = flat(&credentials, now);
    state.handed_out = Some(credentials);
    answer
}
