//! Members of a JSON value, with every byte as it is written there.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// Reason why a value has no such member to give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// The value is not JSON.
    #[error("the field {0} needs a value that is JSON, and this one is not")]
    NotJson(String),
    /// The value has no such member.
    #[error("the value has no member {0}")]
    Missing(String),
    /// The member is a JSON string without a text.
    #[error(
        "the member {0} is not text: it has half of a surrogate pair, which no encoding can express"
    )]
    NotText(String),
}

/// Returns one member of a JSON value: a string unescaped, anything else as it is written there.
///
/// A dot in `field` goes deeper. Of the names that `field` begins with, the longest that leads to a member counts, so a
/// member whose own name has the dots comes first. Of several members of one name the last counts.
pub fn member(value: &[u8], field: &str) -> Result<Zeroizing<Vec<u8>>, MemberError> {
    let value = str::from_utf8(value)
        .ok()
        .and_then(parse)
        .ok_or_else(|| MemberError::NotJson(field.to_owned()))?;
    let found = descend(value, field).ok_or_else(|| MemberError::Missing(field.to_owned()))?;
    if !found.get().starts_with('"') {
        return Ok(Zeroizing::new(found.get().as_bytes().to_vec()));
    }
    text(found)
        .map(|text| Zeroizing::new(text.as_bytes().to_vec()))
        .ok_or_else(|| MemberError::NotText(field.to_owned()))
}

/// Parses JSON with any numbers, escapes and depth. A byte order mark before it is skipped.
pub fn parse(text: &str) -> Option<&RawValue> {
    serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(text)).ok()
}

/// Returns the text of a JSON string; `None` for half of a surrogate pair and for any other value.
pub fn text(value: &RawValue) -> Option<Zeroizing<String>> {
    serde_json::from_str(value.get()).ok().map(Zeroizing::new)
}

/// Returns the last member of an object that has this name.
pub fn last_member<'v>(object: &'v RawValue, name: &str) -> Option<&'v RawValue> {
    last_of(&members(object)?, name)
}

/// Name and value of a member. A name that is not text is `None`.
pub type Member<'v> = (Option<Zeroizing<String>>, &'v RawValue);

/// Returns the members of an object in their order; `None` for any other value.
pub fn members(object: &RawValue) -> Option<Vec<Member<'_>>> {
    let Members(members) = serde_json::from_str(object.get()).ok()?;
    Some(members)
}

/// Returns the items of an array; `None` for any other value.
pub fn items(array: &RawValue) -> Option<Vec<&RawValue>> {
    let Items(items) = serde_json::from_str(array.get()).ok()?;
    Some(items)
}

fn last_of<'v>(members: &[Member<'v>], name: &str) -> Option<&'v RawValue> {
    let mut from_last = members.iter().rev();
    from_last
        .find(|(known, _)| known.as_deref().is_some_and(|known| known == name))
        .map(|(_, value)| *value)
}

fn descend<'v>(value: &'v RawValue, path: &str) -> Option<&'v RawValue> {
    if value.get().starts_with('[') {
        let (index, rest) = match path.split_once('.') {
            Some((index, rest)) => (index, Some(rest)),
            None => (path, None),
        };
        let item = item(value, index)?;
        return match rest {
            Some(rest) => descend(item, rest),
            None => Some(item),
        };
    }
    let members = members(value)?;
    if let Some(found) = last_of(&members, path) {
        return Some(found);
    }
    // From the longest name to the shortest.
    path.rmatch_indices('.').find_map(|(dot, _)| {
        let (name, rest) = (path.get(..dot)?, path.get(dot + 1..)?);
        descend(last_of(&members, name)?, rest)
    })
}

/// Returns the item of an array at `index`, which is written in plain digits.
fn item<'v>(array: &'v RawValue, index: &str) -> Option<&'v RawValue> {
    let plain = index == "0" || !index.starts_with(['0', '+']);
    let index = index.parse().ok().filter(|_| plain)?;
    items(array)?.get::<usize>(index).copied()
}

/// Members of an object in their order.
struct Members<'v>(Vec<Member<'v>>);

/// Items of an array.
struct Items<'v>(Vec<&'v RawValue>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    members.push((text(name), value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(value: &str, field: &str) -> Option<String> {
        let found = member(value.as_bytes(), field).ok()?;
        Some(String::from_utf8(found.to_vec()).unwrap())
    }

    #[test]
    fn a_member_is_printed_as_it_is_written() {
        let deep = format!(
            r#"{{"a":{}1{},"b":"x"}}"#,
            "[".repeat(5000),
            "]".repeat(5000)
        );
        assert_eq!(field(&deep, "b").as_deref(), Some("x"));
        for number in [
            "12345678901234567890123",
            "1.10",
            "1E5",
            "-0",
            "-0.0",
            "1e400",
            "0.10",
            "1e-400",
        ] {
            let value = format!(r#"{{"n": {number} , "s": "\ud800", "e": 1e400}}"#);
            assert_eq!(field(&value, "n").as_deref(), Some(number));
            assert_eq!(field(&value, "s"), None, "half of a pair is not text");
        }
        for (value, path, found) in [
            (r#"{"a":"\u00e9\"\\\n\ud83d\ude00"}"#, "a", "é\"\\\n😀"),
            ("\u{feff}{\"a\":1}", "a", "1"),
            (r#"{"a":"\ufeffx"}"#, "a", "\u{feff}x"),
            (r#"{"a":{ "b" : [ 1,2 ] }}"#, "a", r#"{ "b" : [ 1,2 ] }"#),
            (r#"{"a":[{"b":true},null]}"#, "a.0.b", "true"),
            (r#"{"a":[{"b":true},null]}"#, "a.1", "null"),
            (r#"{"\u0061":1}"#, "a", "1"),
            (r#"{"\ud800":1,"a":2}"#, "a", "2"),
            (r#"{"a":1,"a":2}"#, "a", "2"),
            (r"[1,[2,3]]", "1.0", "2"),
            (r#"{"":{"":5}}"#, ".", "5"),
        ] {
            assert_eq!(field(value, path).as_deref(), Some(found), "{value} {path}");
        }
        for (value, path) in [
            (r#"{"a":[1]}"#, "a.+0"),
            (r#"{"a":[1]}"#, "a.00"),
            (r#"{"a":[1]}"#, "a.1"),
            (r#"{"a":"b"}"#, "a.b"),
            (r#"{"a":1} x"#, "a"),
            (r#"{"a":01}"#, "a"),
            ("plain", "a"),
        ] {
            assert_eq!(field(value, path), None, "{value} {path}");
        }
    }

    #[test]
    fn a_name_with_dots_comes_first_at_each_level() {
        for (value, path, found) in [
            (
                r#"{"spring.datasource.password":"pw"}"#,
                "spring.datasource.password",
                "pw",
            ),
            (r#"{"a.b":1,"a":{"b":2}}"#, "a.b", "1"),
            (
                r#"{"a.b":{"c.d":1,"c":{"d":2}},"a":{"b.c.d":3}}"#,
                "a.b.c.d",
                "1",
            ),
            (r#"{"a.b":1,"a":{"b":{"c":2}}}"#, "a.b.c", "2"),
            (r#"{"a":{"b.c":[{"d.e":7}]}}"#, "a.b.c.0.d.e", "7"),
        ] {
            assert_eq!(field(value, path).as_deref(), Some(found), "{value} {path}");
        }
    }
}
