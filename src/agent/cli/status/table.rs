//! Status as a table.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::terminal::shown;

/// Minimum cells of a name, and cells of a version id that is cut.
const CUT_VERSION: usize = 12;
const SHORTEST_NAME: usize = 8;

/// Width of the columns right of name and version, each with its gap: state, age, left, hits.
const OTHER_COLUMNS: usize = 2 + 7 + 2 + 8 + 2 + 8 + 2 + 7;

/// Stage of an entry that was requested without one.
const CURRENT: &str = "ACSCurrent";

/// Returns a few lines on the agent and a table of its entries. Version ids and names are cut only if a line would have
/// more than `columns` cells.
pub(super) fn render(status: &Value, columns: Option<usize>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_summary(&mut text, status).and_then(|()| {
        let rows: Vec<Row> = list(status, "entries").iter().map(Row::new).collect();
        write_entries(&mut text, &rows, columns)
    });
    if status.get("truncated") == Some(&Value::Bool(true)) {
        text.push_str("… and more, which the agent does not list\n");
    }
    text
}

fn write_summary(text: &mut String, status: &Value) -> std::fmt::Result {
    let word = |path: &str| word(status.pointer(path));
    let known = |path: &str| word(path).unwrap_or(Cow::Borrowed("unknown"));
    let number = |path: &str| number(status.pointer(path));
    write!(
        text,
        "agent        {}, pid {}",
        known("/version"),
        number("/pid")
    )?;
    write_if(text, ", since ", word("/started_at"))?;
    write!(
        text,
        "\ncache        {}, {} of {} entries",
        known("/cache/backend"),
        number("/cache/entries"),
        number("/cache/capacity")
    )?;
    if status.pointer("/cache/store").is_some_and(Value::is_object) {
        write!(text, "\nstore        {}, ", known("/cache/store/state"))?;
        if status
            .pointer("/cache/store/bytes")
            .is_some_and(Value::is_u64)
        {
            write!(text, "{} bytes, ", number("/cache/store/bytes"))?;
        }
        text.push_str(&known("/cache/store/path"));
        match word("/cache/store/committed_at") {
            Some(at) => write!(text, ", last written {at}")?,
            None => text.push_str(", not written yet"),
        }
    }
    write!(text, "\nupstream     {}", known("/upstream/state"))?;
    if let Some(error) = word("/upstream/last_error") {
        write!(text, " ({error})")?;
    }
    match word("/upstream/last_success_at") {
        Some(at) => write!(text, ", KMS last answered {at}")?,
        None => text.push_str(", KMS has not answered yet"),
    }
    match word("/credentials/provider") {
        None => text.push_str("\ncredentials  none yet"),
        Some(provider) => {
            write!(text, "\ncredentials  {provider}")?;
            match word("/credentials/expires_at") {
                Some(at) => write!(text, ", expire {at}")?,
                None => text.push_str(", without an end"),
            }
        }
    }
    for item in list(status, "prefetch") {
        let field = |name: &str| self::word(item.get(name));
        write!(
            text,
            "\nprefetch     {}, {}",
            field("name").unwrap_or_default(),
            field("state").unwrap_or_default()
        )?;
        write_if(text, ": ", field("error"))?;
    }
    for item in list(status, "files") {
        let field = |name: &str| self::word(item.get(name));
        write!(
            text,
            "\nfile         {}, {}",
            field("path").unwrap_or_default(),
            field("state").unwrap_or_default()
        )?;
        write_if(text, ", from ", field("secret"))?;
        write_if(text, ", version ", field("version"))?;
        write_if(text, ", written ", field("written_at"))?;
        write_if(text, ": ", field("error"))?;
    }
    text.push('\n');
    Ok(())
}

fn write_entries(text: &mut String, rows: &[Row<'_>], columns: Option<usize>) -> std::fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    let widest = |cell: for<'r> fn(&'r Row<'_>) -> &'r str, title: &str| {
        rows.iter()
            .map(|row| cell(row).width())
            .fold(title.len(), usize::max)
    };
    let mut name_width = widest(|row| &row.name, "NAME");
    let mut version_width = widest(|row| &row.version, "VERSION");
    if let Some(columns) = columns {
        let room = columns.saturating_sub(OTHER_COLUMNS + 2);
        if name_width + version_width > room {
            // A name says more than the end of a version id.
            version_width = version_width.min(CUT_VERSION.max(room.saturating_sub(name_width)));
            name_width = name_width.min(SHORTEST_NAME.max(room.saturating_sub(version_width)));
        }
    }
    text.push('\n');
    let mut line = |cells: [&str; 6]| {
        let [name, version, state, age, left, hits] = cells;
        writeln!(
            text,
            "{}  {}  {state:7}  {age:>8}  {left:>8}  {hits:>7}",
            fitted(name, name_width),
            fitted(version, version_width)
        )
    };
    line(["NAME", "VERSION", "STATE", "AGE", "LEFT", "HITS"])?;
    for row in rows {
        line([
            &row.name,
            &row.version,
            &row.state,
            &duration(row.age),
            &row.left.map(duration).unwrap_or_default(),
            &row.hits.to_string(),
        ])?;
    }
    Ok(())
}

/// Row of one entry.
struct Row<'a> {
    /// Name, with the requested version or stage unless it is the current one.
    name: Cow<'a, str>,
    version: Cow<'a, str>,
    state: Cow<'a, str>,
    age: u64,
    /// Seconds until the entry leaves its state; `None` for one that does not.
    left: Option<u64>,
    hits: u64,
}

impl<'a> Row<'a> {
    fn new(entry: &'a Value) -> Self {
        let field = |name: &str| word(entry.get(name)).unwrap_or_default();
        let name = match field("selector") {
            selector if selector.is_empty() || selector == CURRENT => field("name"),
            selector => Cow::Owned(format!("{} ({selector})", field("name"))),
        };
        let state = field("state");
        let left = match &*state {
            "fresh" => Some(number(entry.get("ttl_seconds"))),
            "expired" => Some(number(entry.get("usable_seconds"))),
            _ => None,
        };
        Self {
            name,
            version: field("version_id"),
            state,
            age: number(entry.get("age_seconds")),
            left,
            hits: number(entry.get("hits")),
        }
    }
}

fn write_if(text: &mut String, before: &str, word: Option<Cow<'_, str>>) -> std::fmt::Result {
    match word {
        Some(word) => write!(text, "{before}{word}"),
        None => Ok(()),
    }
}

fn word(value: Option<&Value>) -> Option<Cow<'_, str>> {
    value.and_then(Value::as_str).map(shown)
}

fn number(value: Option<&Value>) -> u64 {
    value.and_then(Value::as_u64).unwrap_or(0)
}

fn list<'a>(status: &'a Value, name: &str) -> &'a [Value] {
    status
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Returns `text` in exactly `width` cells of a terminal; a cut is marked.
fn fitted(text: &str, width: usize) -> String {
    let mut fitted = String::new();
    let mut used = text.width();
    if used <= width {
        fitted.push_str(text);
    } else {
        used = 1;
        for character in text.chars() {
            let wider = used + character.width().unwrap_or(0);
            if wider > width {
                break;
            }
            fitted.push(character);
            used = wider;
        }
        fitted.push('…');
    }
    fitted.extend(std::iter::repeat_n(' ', width.saturating_sub(used)));
    fitted
}

/// Formats the two largest units: `3m12s`, `5h07m`, `2d01h`.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests;
