//! Instants of the agent's timeline, and the three of them that an entry carries.

use std::time::Duration;

use time::OffsetDateTime;

/// Milliseconds since the Unix epoch, on the agent's own timeline (see [`Timeline`](crate::Timeline)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Reads an RFC 3339 date such as `2020-07-06T18:22:03Z`.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let date =
            OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
        let millis = date.unix_timestamp_nanos() / 1_000_000;
        i64::try_from(millis).ok().map(Self)
    }

    /// Writes the whole second as `YYYY-MM-DDTHH:MM:SSZ`, the form KMS uses; `None` outside years 0 to 9999.
    pub fn to_rfc3339(self) -> Option<String> {
        const FORM: &[time::format_description::BorrowedFormatItem<'_>] =
            time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
        OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1000))
            .ok()?
            .format(FORM)
            .ok()
    }

    /// Time since `earlier`; zero when that lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This instant and `duration` more, saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// This instant less `duration`, saturating.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

/// Instants by which an entry is judged. Whether it is fresh is the judgement of the cache's policy, so that
/// a changed policy counts for entries already held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Time when KMS was asked.
    pub fetched_at: Timestamp,
    /// Rotation of the secret by KMS, jitter included; in the future when the entry was made.
    pub rotates_at: Option<Timestamp>,
    /// Time from which on a backend must not return the entry.
    pub usable_until: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_round_trip_in_the_form_kms_uses() {
        let at = Timestamp::parse_rfc3339("2020-07-06T18:22:03Z").expect("a date");
        assert_eq!(at.as_millis(), 1_594_059_723_000);
        assert_eq!(at.to_rfc3339().as_deref(), Some("2020-07-06T18:22:03Z"));
        assert_eq!(Timestamp::parse_rfc3339("next tuesday"), None);
    }

    #[test]
    fn an_instant_ahead_is_not_in_the_past() {
        let (early, late) = (Timestamp::from_millis(10), Timestamp::from_millis(25));
        assert_eq!(late.since(early), Duration::from_millis(15));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
