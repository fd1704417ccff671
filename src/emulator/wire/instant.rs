//! Time formats of the services.

use time::OffsetDateTime;
use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const UTC: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const HTTP: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// Formats a time as `2026-01-02T03:04:05Z`.
pub(crate) fn text(at: OffsetDateTime) -> String {
    at.to_offset(time::UtcOffset::UTC)
        .format(UTC)
        .unwrap_or_default()
}

/// Formats a `Date` header.
pub(crate) fn http_date(at: OffsetDateTime) -> String {
    at.to_offset(time::UtcOffset::UTC)
        .format(HTTP)
        .unwrap_or_default()
}

/// Parses `2026-01-02T03:04:05Z`, and no other form.
pub(crate) fn parse(text: &str) -> Option<OffsetDateTime> {
    PrimitiveDateTime::parse(text, UTC)
        .ok()
        .map(PrimitiveDateTime::assume_utc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_the_round_trip() {
        let at = parse("2026-01-02T03:04:05Z");
        assert_eq!(at.map(text).as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(
            at.map(http_date).as_deref(),
            Some("Fri, 02 Jan 2026 03:04:05 GMT")
        );
    }

    #[test]
    fn other_forms_of_a_time_are_refused() {
        for text in [
            "",
            "2026-01-02 03:04:05",
            "2026-01-02T03:04:05+00:00",
            "2026-1-2T3:4:5Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
