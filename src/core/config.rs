//! Config tables as the parts of the agent read them: each part takes its own keys, every problem is
//! collected with its line, and nothing of a value is ever repeated.
//!
//! Every key with a single value can also be set by an environment variable, which overrides the file. This holds
//! for each part, present and future, because they all read their keys through [`ConfigTable`].

mod raw;
mod report;
mod unused;
mod variable;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

pub use self::raw::{Located, RawTable, RawValue};
pub use self::report::{KeySpec, Problem, Report};
use self::variable::ScalarKind;
pub use self::variable::{Overrides, variable_name};

/// One table while its keys are read. Reading a key marks it as known; [`finish`](Self::finish) reports the
/// rest.
#[derive(Debug)]
pub struct ConfigTable<'r> {
    report: &'r RefCell<Report>,
    name: String,
    line: usize,
    entries: BTreeMap<String, Located>,
    lines: BTreeMap<String, usize>,
    known: Vec<&'static str>,
    /// The keys that an environment variable has set.
    overridden: BTreeSet<&'static str>,
    /// A piece of a list, which no variable names.
    is_in_list: bool,
    /// Keys that are absent and must be set if the part that reads this table is used, with the remedy.
    missing: Vec<(&'static str, &'static str)>,
}

impl<'r> ConfigTable<'r> {
    /// The file's top table.
    pub fn root(raw: RawTable, report: &'r RefCell<Report>) -> Self {
        Self::new(String::new(), raw, report)
    }

    fn new(name: String, raw: RawTable, report: &'r RefCell<Report>) -> Self {
        Self {
            report,
            name,
            line: raw.line,
            lines: raw
                .entries
                .iter()
                .map(|(key, located)| (key.clone(), located.line))
                .collect(),
            entries: raw.entries,
            known: Vec::new(),
            overridden: BTreeSet::new(),
            is_in_list: false,
            missing: Vec::new(),
        }
    }

    /// The table `key` in this one; an absent one is empty.
    #[must_use]
    pub fn table(&mut self, key: &'static str) -> ConfigTable<'r> {
        self.known.push(key);
        let raw = match self.entries.remove(key) {
            None => RawTable::default(),
            Some(Located {
                value: RawValue::Table(raw),
                ..
            }) => raw,
            Some(located) => {
                self.problem(
                    located.line,
                    key,
                    format!("must be a table, not {}", located.value.kind()),
                );
                RawTable::default()
            }
        };
        ConfigTable {
            is_in_list: self.is_in_list,
            ..ConfigTable::new(self.full(key), raw, self.report)
        }
    }

    /// The line of `key`, or of the table where the key is absent; to report a problem found later.
    pub fn line_of(&self, key: &str) -> usize {
        self.lines.get(key).copied().unwrap_or(self.line)
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        self.scalar(
            key,
            ScalarKind::Boolean,
            default.to_string(),
            "true or false",
        );
        match self.take(key) {
            None => default,
            Some(Located {
                value: RawValue::Bool(value),
                ..
            }) => value,
            Some(other) => self.wrong_type(key, &other, "true or false", default),
        }
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, key: &'static str, range: RangeInclusive<u32>, default: u32) -> u32 {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        self.integer_where(key, &allowed, default, |value| range.contains(&value))
    }

    /// A whole number that `accept` takes; `allowed` says in words which ones those are.
    pub fn integer_where(
        &mut self,
        key: &'static str,
        allowed: &str,
        default: u32,
        accept: impl Fn(u32) -> bool,
    ) -> u32 {
        self.scalar(key, ScalarKind::Integer, default.to_string(), allowed);
        match self.take(key) {
            None => default,
            Some(Located {
                value: RawValue::Integer(value),
                line,
            }) => match u32::try_from(value).ok().filter(|value| accept(*value)) {
                Some(value) => value,
                None => self.reject(line, key, format!("must be {allowed}"), default),
            },
            Some(other) => self.wrong_type(key, &other, allowed, default),
        }
    }

    /// One of `names`, written exactly so. The problem for anything else lists them.
    pub fn choice(
        &mut self,
        key: &'static str,
        names: &[&'static str],
        default: &'static str,
    ) -> &'static str {
        self.choose(key, names, default, |given, name| given == name)
    }

    /// One of `names`, in any case.
    pub fn choice_ignoring_case(
        &mut self,
        key: &'static str,
        names: &[&'static str],
        default: &'static str,
    ) -> &'static str {
        self.choose(key, names, default, str::eq_ignore_ascii_case)
    }

    fn choose(
        &mut self,
        key: &'static str,
        names: &[&'static str],
        default: &'static str,
        same: impl Fn(&str, &str) -> bool,
    ) -> &'static str {
        let allowed = format!("one of {}", names.join(", "));
        self.string(key, default, &allowed, |given| {
            names
                .iter()
                .find(|name| same(given, name))
                .copied()
                .ok_or_else(|| format!("must be {allowed}"))
        })
        .unwrap_or(default)
    }

    /// Text that `parse` understands; its error says what is wrong without repeating the text. `None` after
    /// a problem, so that the caller need not invent a value. The default is parsed too.
    pub fn string<T>(
        &mut self,
        key: &'static str,
        default: &str,
        allowed: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.scalar(key, ScalarKind::String, format!("\"{default}\""), allowed);
        let (line, text) = match self.take(key) {
            None => (self.line, default.to_owned()),
            Some(Located {
                value: RawValue::String(text),
                line,
            }) => (line, text),
            Some(other) => return self.wrong_type(key, &other, allowed, None),
        };
        match parse(&text) {
            Ok(value) => Some(value),
            Err(message) => self.reject(line, key, message, None),
        }
    }

    /// Text that `parse` understands, or a list of such text; empty by default.
    pub fn one_or_more<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let is_list = |entry: &Located| matches!(entry.value, RawValue::Array(_));
        if self.entries.get(key).is_some_and(is_list) {
            return self.strings(key, 1..=16, &[], allowed, parse);
        }
        let parse = |text: &str| match text {
            "" => Ok(Vec::new()),
            text => parse(text).map(|value| vec![value]),
        };
        self.string(key, "", allowed, parse)
    }

    /// Lets a whole number stand for the text of its digits under `key`, which is read next.
    pub fn number_as_text(&mut self, key: &str) {
        if let Some(located) = self.entries.get_mut(key)
            && let RawValue::Integer(number) = located.value
        {
            located.value = RawValue::String(number.to_string());
        }
    }

    /// A list of `count` pieces of text, each of which `parse` understands.
    pub fn strings<T>(
        &mut self,
        key: &'static str,
        count: RangeInclusive<usize>,
        default: &[&str],
        allowed: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let quoted: Vec<String> = default.iter().map(|text| format!("\"{text}\"")).collect();
        self.spec(key, format!("[{}]", quoted.join(", ")), allowed, false);
        let Some((line, items)) = self.take_list(key, allowed)? else {
            return default.iter().map(|text| parse(text).ok()).collect();
        };
        if !count.contains(&items.len()) {
            return self.reject(line, key, format!("must be {allowed}"), None);
        }
        let parsed: Vec<Option<T>> = items
            .iter()
            .map(|item| match &item.value {
                RawValue::String(text) => match parse(text) {
                    Ok(value) => Some(value),
                    Err(message) => self.reject(item.line, key, message, None),
                },
                _ => self.wrong_type(key, item, allowed, None),
            })
            .collect();
        parsed.into_iter().collect()
    }

    /// A list, empty by default, of text and tables; a piece of text stands for a table with only `short`
    /// set. `read` reads one such table.
    pub fn tables<T>(
        &mut self,
        key: &'static str,
        short: &'static str,
        allowed: &str,
        read: impl Fn(&mut ConfigTable<'r>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.spec(key, "[]".to_owned(), allowed, false);
        let (_, items) = self.take_list(key, allowed)?.unwrap_or_default();
        // What the tables' own keys are is told once, by `allowed`.
        let known = self.report.borrow().keys.len();
        let parsed: Vec<Option<T>> = items
            .into_iter()
            .map(|item| {
                let line = item.line;
                let raw = match item.value {
                    RawValue::Table(raw) => RawTable { line, ..raw },
                    RawValue::String(_) => RawTable {
                        line,
                        entries: BTreeMap::from([(short.to_owned(), item)]),
                    },
                    _ => return self.wrong_type(key, &item, allowed, None),
                };
                let mut table = ConfigTable {
                    is_in_list: true,
                    ..ConfigTable::new(self.full(key), raw, self.report)
                };
                let value = read(&mut table);
                table.finish();
                value
            })
            .collect();
        self.report.borrow_mut().keys.truncate(known);
        parsed.into_iter().collect()
    }

    /// The list under `key` with its line: `Some(None)` where there is none, `None` after a problem.
    #[expect(clippy::option_option, reason = "absent and wrong are two things")]
    fn take_list(
        &mut self,
        key: &'static str,
        allowed: &str,
    ) -> Option<Option<(usize, Vec<Located>)>> {
        match self.take(key) {
            None => Some(None),
            Some(Located {
                value: RawValue::Array(items),
                line,
            }) => Some(Some((line, items))),
            Some(other) => self.wrong_type(key, &other, allowed, None),
        }
    }

    /// Notes that `key`, which is absent, must be set if the part that reads this table is used; `remedy` says what to
    /// set.
    pub fn require(&mut self, key: &'static str, remedy: &'static str) {
        self.missing.push((key, remedy));
    }

    /// Reports the keys that the part in use lacks.
    pub(crate) fn report_missing(&self) {
        for (key, remedy) in &self.missing {
            self.problem(self.line_of(key), key, *remedy);
        }
    }

    /// Reports a problem of `key` that only the caller can see, such as two keys that do not go together.
    pub fn problem(&self, line: usize, key: &str, message: impl Into<String>) {
        let full = self.full(key);
        let variable = self.overridden.contains(key).then(|| variable_name(&full));
        self.report.borrow_mut().problems.push(Problem {
            line: if variable.is_some() { 0 } else { line },
            variable,
            key: full,
            message: message.into(),
        });
    }

    /// Reports every unread key.
    pub fn finish(self) {
        for (key, located) in &self.entries {
            let nearest = self
                .known
                .iter()
                .map(|known| {
                    (
                        strsim::damerau_levenshtein(&known.to_lowercase(), &key.to_lowercase()),
                        known,
                    )
                })
                .min()
                .filter(|(distance, known)| *distance <= known.len() / 2)
                .map_or_else(
                    || match &*self.known {
                        [] => "this table has no keys".to_owned(),
                        known => format!("known here: {}", known.join(", ")),
                    },
                    |(_, known)| format!("did you mean {known}?"),
                );
            let what = match located.value {
                RawValue::Table(_) => "unknown table",
                _ => "unknown key",
            };
            self.problem(located.line, key, format!("{what}; {nearest}"));
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Located> {
        self.entries.remove(key)
    }

    fn full(&self, key: &str) -> String {
        let key = key.escape_debug();
        if self.name.is_empty() {
            key.to_string()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    /// Marks `key`, which has a single value, as known, and takes that from the environment where it is set there.
    fn scalar(&mut self, key: &'static str, kind: ScalarKind, default: String, allowed: &str) {
        if !self.is_in_list {
            let name = variable_name(&self.full(key));
            let set = self.report.borrow().overrides.get(&name, kind);
            if let Some(value) = set {
                self.entries
                    .insert(key.to_owned(), Located { line: 0, value });
                self.overridden.insert(key);
            }
        }
        self.spec(key, default, allowed, !self.is_in_list);
    }

    fn spec(&mut self, key: &'static str, default: String, allowed: &str, is_scalar: bool) {
        self.known.push(key);
        let value = self
            .entries
            .get(key)
            .map_or_else(|| default.clone(), |located| located.value.to_string());
        self.report.borrow_mut().keys.push(KeySpec {
            key: self.full(key),
            default,
            allowed: allowed.to_owned(),
            value,
            is_scalar,
        });
    }

    fn wrong_type<T>(&self, key: &str, found: &Located, allowed: &str, instead: T) -> T {
        let is_overridden = self.overridden.contains(key);
        let message = match &found.value {
            RawValue::String(text) if is_overridden && text.is_empty() => {
                format!("is empty; set {allowed}, or do not set the variable")
            }
            RawValue::String(_) if is_overridden => format!("must be {allowed}"),
            RawValue::Other if is_overridden => "is not UTF-8 text".to_owned(),
            other => format!("must be {allowed}, not {}", other.kind()),
        };
        self.reject(found.line, key, message, instead)
    }

    fn reject<T>(&self, line: usize, key: &str, message: String, instead: T) -> T {
        self.problem(line, key, message);
        instead
    }
}
