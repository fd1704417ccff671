use kms_agent_core::Timestamp;
use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const HTTP_DATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// Reads a date of RFC 9110 in the form that everybody sends.
pub(crate) fn parse_http_date(text: &str) -> Option<Timestamp> {
    let date = PrimitiveDateTime::parse(text.trim(), HTTP_DATE).ok()?;
    let seconds = date.assume_utc().unix_timestamp();
    Some(Timestamp::from_millis(seconds.checked_mul(1000)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_header_is_read_to_the_second() {
        let at = parse_http_date("Mon, 06 Jul 2020 18:22:03 GMT");
        assert_eq!(at.map(Timestamp::as_millis), Some(1_594_059_723_000));
        assert_eq!(parse_http_date("2020-07-06T18:22:03Z"), None);
        assert_eq!(parse_http_date("120"), None);
    }
}
