//! A parsed config file, free of any file format.

use std::collections::BTreeMap;
use std::fmt;

/// A parsed config file, free of any file format.
#[derive(Clone, Debug, Default)]
pub struct RawTable {
    /// The line it begins at.
    pub line: usize,
    /// Its keys, sorted.
    pub entries: BTreeMap<String, Located>,
}

/// A value and the line it stands on, counted from 1.
#[derive(Clone, Debug)]
pub struct Located {
    /// The line of its key.
    pub line: usize,
    /// The value.
    pub value: RawValue,
}

/// A value of a config file.
#[derive(Clone)]
pub enum RawValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Text.
    String(String),
    /// A list.
    Array(Vec<Located>),
    /// A table.
    Table(RawTable),
    /// A float, a date, a number out of range: nothing that any key takes.
    Other,
}

impl RawValue {
    /// Its type, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "a whole number",
            Self::String(_) => "a string",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other => "another type",
        }
    }
}

impl fmt::Display for RawValue {
    /// As it would be written in a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::String(text) => write!(f, "{text:?}"),
            Self::Array(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}{}", item.value)?;
                }
                f.write_str("]")
            }
            Self::Table(table) => {
                f.write_str("{")?;
                for (index, (key, located)) in table.entries.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}{key} = {}", located.value)?;
                }
                f.write_str("}")
            }
            Self::Other => f.write_str("?"),
        }
    }
}

impl fmt::Debug for RawValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.kind())
    }
}
