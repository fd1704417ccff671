//! The status for people, in 80 columns.

use std::fmt::Write;

use serde_json::Value;

/// The widest line.
const COLUMNS: usize = 80;

/// What the columns right of the name take: version, state, age, left, hits and the gaps.
const OTHER_COLUMNS: usize = 2 + 12 + 2 + 7 + 2 + 8 + 2 + 8 + 2 + 7;

/// A few lines on the agent as a whole and a table of its entries.
pub(super) fn render(status: &Value) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_all(&mut text, status);
    text
}

fn write_all(text: &mut String, status: &Value) -> std::fmt::Result {
    let at = |path: &str| status.pointer(path);
    let word = |path: &str| at(path).and_then(Value::as_str).unwrap_or("-");
    let number = |path: &str| at(path).and_then(Value::as_u64).unwrap_or(0);
    writeln!(
        text,
        "agent        {}, pid {}, since {}",
        word("/version"),
        number("/pid"),
        word("/started_at")
    )?;
    writeln!(
        text,
        "cache        {}, {} of {} entries",
        word("/cache/backend"),
        number("/cache/entries"),
        number("/cache/capacity")
    )?;
    if at("/cache/store").is_some_and(Value::is_object) {
        writeln!(
            text,
            "store        {}, {} bytes, {}, committed {}",
            word("/cache/store/state"),
            number("/cache/store/bytes"),
            word("/cache/store/path"),
            word("/cache/store/committed_at")
        )?;
    }
    let error = at("/upstream/last_error").and_then(Value::as_str);
    let error = error.map(|error| format!(" ({error})")).unwrap_or_default();
    writeln!(
        text,
        "upstream     {}{error}, last answer {}",
        word("/upstream/state"),
        word("/upstream/last_success_at")
    )?;
    writeln!(
        text,
        "credentials  {}, until {}",
        word("/credentials/provider"),
        word("/credentials/expires_at")
    )?;
    for item in list(status, "prefetch") {
        let field = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or("-");
        writeln!(
            text,
            "prefetch     {} {} {}",
            field("name"),
            field("state"),
            field("error")
        )?;
    }
    let entries = list(status, "entries");
    if entries.is_empty() {
        return Ok(());
    }
    let width = COLUMNS - OTHER_COLUMNS;
    writeln!(
        text,
        "\n{:width$}  {:12}  {:7}  {:>8}  {:>8}  {:>7}",
        "NAME", "VERSION", "STATE", "AGE", "LEFT", "HITS"
    )?;
    for entry in entries {
        let field = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or("-");
        let count = |name: &str| entry.get(name).and_then(Value::as_u64).unwrap_or(0);
        writeln!(
            text,
            "{:width$}  {:12}  {:7}  {:>8}  {:>8}  {:>7}",
            shortened(field("name"), width),
            shortened(field("version_id"), 12),
            field("state"),
            duration(count("age_seconds")),
            duration(count("usable_seconds")),
            count("hits")
        )?;
    }
    if status.get("truncated") == Some(&Value::Bool(true)) {
        writeln!(text, "… and more")?;
    }
    Ok(())
}

fn list<'a>(status: &'a Value, name: &str) -> &'a [Value] {
    status
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// `text` in at most `width` characters; what is cut is shown as cut.
fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars()
        .take(width.saturating_sub(1))
        .chain(['…'])
        .collect()
}

/// The two largest units: `3m12s`, `5h07m`, `2d01h`.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ages_are_told_in_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (192, "3m12s"),
            (18_420, "5h07m"),
            (176_400, "2d01h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn no_line_of_the_table_is_wider_than_a_terminal() {
        let entry = json!({"name": "n".repeat(200), "version_id": "v".repeat(64), "state": "expired",
            "age_seconds": 9_000_000, "usable_seconds": 9_000_000, "hits": 1_234_567});
        let text = render(&json!({"entries": [entry], "truncated": true}));
        assert!(text.contains('…'));
        assert!(
            text.lines().all(|line| line.chars().count() <= COLUMNS),
            "{text}"
        );
    }
}
