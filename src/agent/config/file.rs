//! Parser from TOML to raw tables with lines.

use std::ops::Range;

use kms_agent_core::config::{Located, Problem, RawTable, RawValue};
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// Parses `text`. Every syntax error is a problem of its own; none repeats the text of its line.
pub(super) fn read(text: &str) -> Result<RawTable, Vec<Problem>> {
    let lines = Lines::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        Ok(convert_table(table.into_inner(), 1, &lines))
    } else {
        Err(errors
            .iter()
            .map(|error| Problem {
                line: error.span().map_or(0, |span| lines.line(&span)),
                message: format!("is not TOML: {}", error.message().replace('\n', ", ")),
                ..Problem::default()
            })
            .collect())
    }
}

fn convert_table(table: DeTable<'_>, line: usize, lines: &Lines) -> RawTable {
    let entries = table
        .into_iter()
        .map(|(key, value)| {
            let line = lines.line(&key.span());
            (key.into_inner().into_owned(), locate(value, line, lines))
        })
        .collect();
    RawTable { line, entries }
}

fn locate(value: Spanned<DeValue<'_>>, line: usize, lines: &Lines) -> Located {
    let value = match value.into_inner() {
        DeValue::Boolean(value) => RawValue::Bool(value),
        DeValue::Integer(value) => integer(&value).map_or(RawValue::Other, RawValue::Integer),
        DeValue::String(text) => RawValue::String(text.into_owned()),
        DeValue::Array(items) => RawValue::Array(
            items
                .into_iter()
                .map(|item| {
                    let line = lines.line(&item.span());
                    locate(item, line, lines)
                })
                .collect(),
        ),
        DeValue::Table(table) => RawValue::Table(convert_table(table, line, lines)),
        DeValue::Float(_) | DeValue::Datetime(_) => RawValue::Other,
    };
    Located { line, value }
}

fn integer(value: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(value.as_str(), value.radix()).ok()
}

/// Offsets at which the lines begin.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(
            std::iter::once(0)
                .chain(breaks.map(|(at, _)| at + 1))
                .collect(),
        )
    }

    /// Returns the line of a span, counted from 1.
    fn line(&self, span: &Range<usize>) -> usize {
        self.0.partition_point(|begin| *begin <= span.start)
    }
}
