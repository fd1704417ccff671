//! A credentials URI: a service that renews its credentials on its own schedule.

use crate::service::metadata::flat;
use crate::state::Services;
use crate::wire::answer::ServiceAnswer;

pub(crate) const PATH: &str = "/credentials";

/// Returns the same temporary key to every caller until it expires.
pub(crate) fn answer(shared: &Services) -> ServiceAnswer {
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
