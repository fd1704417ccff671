//! The text of an ini file, read as Python's `configparser` reads it with its default settings, which is what the
//! official Python SDK uses. Lines that `configparser` refuses are passed over.

use std::collections::BTreeMap;

/// The section that all others inherit from.
const DEFAULTS: &str = "DEFAULT";

/// The most references to other options that a value may hold, the references of those included.
const MAX_REFERENCES: usize = 100;

/// The options of profiles. A line that sets one of them is not the continuation of another, whatever its indent.
const OPTIONS: [&str; 14] = [
    "access_key_id",
    "access_key_secret",
    "enable",
    "oidc_provider_arn",
    "oidc_token_file_path",
    "policy",
    "private_key_file",
    "public_key_id",
    "region_id",
    "role_arn",
    "role_name",
    "role_session_name",
    "security_token",
    "type",
];

/// The lines of each option, by its name in lower case.
type IniOptions<'a> = BTreeMap<String, Vec<&'a str>>;

/// All sections of a file.
#[derive(Default)]
pub(super) struct Document<'a> {
    sections: BTreeMap<&'a str, IniOptions<'a>>,
}

/// One section, with what it inherits.
pub(super) struct IniSection<'a> {
    own: &'a IniOptions<'a>,
    inherited: Option<&'a IniOptions<'a>>,
}

impl<'a> Document<'a> {
    /// Reads a whole file. There is no text that it does not take.
    pub(super) fn parse(text: &'a str) -> Self {
        let mut reader = Reader::default();
        for line in lines(text) {
            reader.read(line);
        }
        reader.document
    }

    /// The section `name`. White space in the brackets does not count where no other section is called so.
    pub(super) fn section(&'a self, name: &str) -> Option<IniSection<'a>> {
        let own = self.sections.get(name).or_else(|| {
            let trimmed = |(other, _): &(&&str, _)| other.trim() == name;
            self.sections.iter().find(trimmed).map(|(_, own)| own)
        });
        Some(IniSection {
            own: own.filter(|_| name != DEFAULTS)?,
            inherited: self.sections.get(DEFAULTS),
        })
    }
}

impl IniSection<'_> {
    /// The value of the option `name`; `None` where it is not set, or empty. What follows a `#` is a comment.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let mut left = MAX_REFERENCES;
        let value = self.interpolated(name, &mut left)?;
        let value = value.split('#').next().unwrap_or_default().trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// The value of `name` with those in it that it refers to by `%(other)s`. A `%%` stands for `%`.
    /// One that is not set, or is one too many, stays as it is written.
    fn interpolated(&self, name: &str, left: &mut usize) -> Option<String> {
        let lines = self.own.get(name);
        let lines = lines.or_else(|| self.inherited?.get(name))?;
        let joined = lines.join("\n");
        let raw = joined.trim_end();
        let mut value = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some((before, after)) = rest.split_once('%') {
            value.push_str(before);
            let reference = after
                .strip_prefix('(')
                .and_then(|after| after.split_once(")s"));
            let other = reference.and_then(|(other, after)| {
                *left = left.checked_sub(1)?;
                Some((self.interpolated(&other.to_lowercase(), left)?, after))
            });
            rest = match (after.strip_prefix('%'), other) {
                (Some(after), _) => {
                    value.push('%');
                    after
                }
                (None, Some((other, after))) => {
                    value.push_str(&other);
                    after
                }
                (None, None) => {
                    value.push('%');
                    after
                }
            };
        }
        value.push_str(rest);
        Some(value)
    }
}

/// Lines, however they end.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
        .flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

/// The document so far, and the place in it that the next line may carry on.
#[derive(Default)]
struct Reader<'a> {
    document: Document<'a>,
    section: Option<&'a str>,
    /// The option of the last line that was one.
    option: Option<String>,
    /// Indent of the last line that was not a continuation.
    indent: usize,
}

impl<'a> Reader<'a> {
    fn read(&mut self, line: &'a str) {
        let text = line.trim();
        if text.starts_with(['#', ';']) {
            return;
        }
        if text.is_empty() {
            // It may be the middle of a value of many lines.
            self.carry_on("");
            return;
        }
        let indent = line
            .chars()
            .take_while(|letter| letter.is_whitespace())
            .count();
        let parts = text.split_once(['=', ':']);
        let option = parts.map(|(name, value)| (name.trim().to_lowercase(), value.trim()));
        let is_known = option
            .as_ref()
            .is_some_and(|(name, _)| OPTIONS.contains(&name.as_str()));
        if indent > self.indent && self.option.is_some() && !is_known {
            self.carry_on(text);
            return;
        }
        self.indent = indent;
        if let Some(name) = header(text) {
            self.section = Some(name);
            self.option = None;
            self.document.sections.entry(name).or_default();
        } else if let (Some(section), Some((name, value))) = (self.section, option)
            && !name.is_empty()
        {
            let options = self.document.sections.entry(section).or_default();
            options.insert(name.clone(), vec![value]);
            self.option = Some(name);
        }
    }

    /// Adds a line to the value that was begun last.
    fn carry_on(&mut self, line: &'a str) {
        if let (Some(section), Some(option)) = (self.section, &self.option)
            && let Some(options) = self.document.sections.get_mut(section)
            && let Some(lines) = options.get_mut(option)
        {
            lines.push(line);
        }
    }
}

/// The name in the brackets, if it is the head of a section. What follows them does not count.
fn header(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?;
    let (name, after) = inner.split_once(']')?;
    let name = if after.trim_start().is_empty() || after.trim_start().starts_with(['#', ';']) {
        name
    } else {
        // A bracket may be part of a name.
        inner.rsplit_once(']')?.0
    };
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests;
