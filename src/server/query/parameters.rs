//! Parameters of a query, each known and present once.

use std::borrow::Cow;
use std::fmt::Display;

use percent_encoding::percent_decode;

use crate::error::{ApiError, Reject};

/// Parameters of a query, of which `N` are known.
pub(crate) struct QueryParameters<'a, const N: usize> {
    known: &'static [&'static str; N],
    /// Values in the order of `known`.
    values: [Option<Cow<'a, str>>; N],
}

impl<'a, const N: usize> QueryParameters<'a, N> {
    /// Reads the parameters of `known`, each at most once.
    pub(crate) fn parse(
        query: &'a str,
        known: &'static [&'static str; N],
    ) -> Result<Self, ApiError> {
        let mut values = [const { None }; N];
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name, "The name of a parameter")?;
            let mut slots = known.iter().zip(&mut values);
            let Some((name, slot)) = slots.find(|(known, _)| **known == name) else {
                return Err(unknown(&name, known));
            };
            if slot
                .replace(decode(value, format_args!("The parameter {name}"))?)
                .is_some()
            {
                return Err(given_twice(name));
            }
        }
        Ok(Self { known, values })
    }

    /// Returns the value of a parameter; `None` if it is absent or not known.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut slots = self.known.iter().zip(&self.values);
        let (_, value) = slots.find(|(known, _)| **known == name)?;
        value.as_deref()
    }

    /// Returns true for true and 1, false for false, 0 and an absent parameter, in any case.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None => Ok(false),
            Some(text) if text == "1" || text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text == "0" || text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(Reject::InvalidParameter
                .because(format!("The parameter {name} takes true, false, 1 or 0."))),
        }
    }
}

/// Returns the error for a parameter that is not one of `known`.
pub(crate) fn unknown(name: &str, known: &[&str]) -> ApiError {
    Reject::InvalidParameter.because(format!(
        "Unknown parameter {}; there are {}.",
        shown(name),
        known.join(", ")
    ))
}

/// Returns the error for a parameter that may be present once only.
pub(crate) fn given_twice(name: &str) -> ApiError {
    Reject::InvalidParameter.because(format!(
        "The parameter {name} is given twice; send it once."
    ))
}

/// Returns the beginning of a name, which may be anything.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

/// Decodes percent-encoding strictly: a `%` that does not begin an escape is an error, and so are bytes that are not
/// UTF-8. A `+` stays a plus, which secret names may have; a space they may not.
pub(crate) fn decode(text: &str, what: impl Display) -> Result<Cow<'_, str>, ApiError> {
    if !text.as_bytes().contains(&b'%') {
        return Ok(Cow::Borrowed(text));
    }
    let reject = |how| Reject::InvalidParameter.because(format!("{what} {how}."));
    if !escapes_are_whole(text.as_bytes()) {
        return Err(reject(
            "has a % that is not followed by two hex digits; write a plain % as %25",
        ));
    }
    percent_decode(text.as_bytes())
        .decode_utf8()
        .map_err(|_| reject("is not UTF-8 after percent-decoding; encode the bytes of UTF-8"))
}

fn escapes_are_whole(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'%')
        .skip(1)
        .all(|rest| matches!(rest, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()))
}
