//! Retries: which calls are worth repeating, and after what pause.

use std::time::Duration;

use kms_agent_core::source::SourceErrorKind;
use kms_agent_core::{Backoff, Timestamp, jitter};

use crate::gateway::wire::parse_http_date;
use crate::http::HttpResponse;

/// Pauses between attempts of one call.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// Whether the same call may fare better in a moment.
pub(crate) const fn is_worth(kind: SourceErrorKind) -> bool {
    matches!(
        kind,
        SourceErrorKind::Unavailable
            | SourceErrorKind::TimedOut
            | SourceErrorKind::Throttled
            | SourceErrorKind::ServerFailure
            | SourceErrorKind::InvalidAnswer
    )
}

/// The pause after the failure of attempt number `attempt`, counted from 1: any part of a bound that doubles,
/// but never less than what the server asked for.
pub(crate) fn pause(attempt: u32, asked: Option<Duration>) -> Duration {
    jitter::up_to(BACKOFF.bound(attempt.saturating_sub(1))).max(asked.unwrap_or_default())
}

/// The longest pause that is taken at its word; more is a mistake or malice.
const LONGEST_ASKED_PAUSE: Duration = Duration::from_hours(1);

/// Pause that the server asks for: the gateway's header in milliseconds, else the standard one in
/// seconds or as a date; at most an hour.
pub(crate) fn asked_pause(response: &HttpResponse, wall: Timestamp) -> Option<Duration> {
    raw_pause(response, wall).map(|pause| pause.min(LONGEST_ASKED_PAUSE))
}

fn raw_pause(response: &HttpResponse, wall: Timestamp) -> Option<Duration> {
    let number = |name| response.header(name)?.trim().parse::<u64>().ok();
    if let Some(millis) = number("x-acs-retry-after").filter(|millis| *millis > 0) {
        return Some(Duration::from_millis(millis));
    }
    if let Some(seconds) = number("retry-after") {
        return Some(Duration::from_secs(seconds));
    }
    let until = parse_http_date(response.header("retry-after")?)?;
    // The server's own clock is the one its date is meant by.
    let now = response
        .header("date")
        .and_then(parse_http_date)
        .unwrap_or(wall);
    Some(until.since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(headers: &[(&str, &str)]) -> HttpResponse {
        HttpResponse {
            status: 429,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: zeroize::Zeroizing::default(),
        }
    }

    fn asked(headers: &[(&str, &str)]) -> Option<Duration> {
        asked_pause(&response(headers), Timestamp::EPOCH)
    }

    #[test]
    fn the_bound_of_the_pause_doubles_from_a_tenth_of_a_second() {
        let bounds: Vec<u128> = [1, 2, 3, 4, 5, 6, 10]
            .map(|attempt| BACKOFF.bound(attempt - 1).as_millis())
            .into();
        assert_eq!(bounds, [100, 200, 400, 800, 1600, 2000, 2000]);
        for _ in 0..100 {
            assert!(pause(1, None) < Duration::from_millis(100));
        }
    }

    #[test]
    fn the_server_is_left_alone_for_as_long_as_it_asks() {
        let asked = Duration::from_secs(7);
        assert_eq!(pause(1, Some(asked)), asked);
    }

    #[test]
    fn every_way_of_asking_for_a_pause_is_understood() {
        let seconds = Duration::from_secs;
        assert_eq!(
            asked(&[("x-acs-retry-after", "1500"), ("retry-after", "9")]),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(
            asked(&[("x-acs-retry-after", "0"), ("retry-after", "9")]),
            Some(seconds(9))
        );
        assert_eq!(
            asked(&[
                ("date", "Mon, 06 Jul 2020 18:22:03 GMT"),
                ("retry-after", "Mon, 06 Jul 2020 18:22:13 GMT")
            ]),
            Some(seconds(10))
        );
        assert_eq!(
            asked(&[("retry-after", "Thu, 01 Jan 1970 00:00:05 GMT")]),
            Some(seconds(5))
        );
        assert_eq!(asked(&[("retry-after", "soon")]), None);
        assert_eq!(asked(&[]), None);
    }

    #[test]
    fn only_failures_that_may_pass_in_a_moment_are_worth_a_retry() {
        use SourceErrorKind as Kind;
        for kind in [
            Kind::Unavailable,
            Kind::TimedOut,
            Kind::Throttled,
            Kind::ServerFailure,
            Kind::InvalidAnswer,
        ] {
            assert!(is_worth(kind), "{kind:?}");
        }
        for kind in [
            Kind::ClockSkew,
            Kind::NoCredentials,
            Kind::IdentityRefused,
            Kind::RegionUnknown,
            Kind::BudgetSpent,
            Kind::Decision,
            Kind::Refused,
            Kind::VersionNotFound,
        ] {
            assert!(!is_worth(kind), "{kind:?}");
        }
    }
}
