//! JSON with one member a line. Every number and every string stays as it is written.

use kms_agent_core::member;
use zeroize::Zeroizing;

use super::RenderError;

/// Limit of levels; the indentation grows with each.
const MAX_LEVELS: usize = 128;

/// Returns `value` with two spaces a level and a line break at its end.
pub(super) fn pretty(value: &str) -> Result<Zeroizing<Vec<u8>>, RenderError> {
    let value = member::parse(value).ok_or(RenderError::NotJson)?.get();
    let mut lines = Zeroizing::new(Vec::with_capacity(capacity(value)?));
    let mut level = 0;
    let mut bytes = value.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                lines.push(byte);
                while let Some(byte) = bytes.next() {
                    lines.push(byte);
                    match byte {
                        b'"' => break,
                        b'\\' => lines.extend(bytes.next()),
                        _ => {}
                    }
                }
            }
            b'{' | b'[' => {
                lines.push(byte);
                while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
                if let Some(end) = bytes.next_if(|next| matches!(next, b'}' | b']')) {
                    lines.push(end);
                } else {
                    level += 1;
                    break_line(&mut lines, level);
                }
            }
            b'}' | b']' => {
                level -= 1;
                break_line(&mut lines, level);
                lines.push(byte);
            }
            b',' => {
                lines.push(byte);
                break_line(&mut lines, level);
            }
            b':' => lines.extend(b": "),
            byte if byte.is_ascii_whitespace() => {}
            byte => lines.push(byte),
        }
    }
    lines.push(b'\n');
    Ok(lines)
}

fn break_line(lines: &mut Vec<u8>, level: usize) {
    lines.push(b'\n');
    lines.extend(std::iter::repeat_n(b' ', 2 * level));
}

/// Returns the bytes that are enough for `value`, so that the buffer never moves. Marks in strings count too.
fn capacity(value: &str) -> Result<usize, RenderError> {
    let mut level: usize = 0;
    let mut deepest = 0;
    let mut breaks = 2;
    let mut is_in_string = false;
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'"' => is_in_string = !is_in_string,
            _ if is_in_string => {}
            b'{' | b'[' => {
                level += 1;
                deepest = deepest.max(level);
                breaks += 1;
            }
            b'}' | b']' => {
                level = level.saturating_sub(1);
                breaks += 1;
            }
            b',' | b':' => breaks += 1,
            _ => {}
        }
    }
    if deepest > MAX_LEVELS {
        return Err(RenderError::TooDeep);
    }
    Ok(value.len() + breaks * (1 + 2 * deepest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> Result<String, RenderError> {
        pretty(value).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn one_member_a_line_with_everything_as_it_is_written() {
        let value = r#" {"b":1.10, "a" : [1,{"x":"\u00e9 {,:\"\\"}, [ ]],"e":{ } } "#;
        let lines = "{\n  \"b\": 1.10,\n  \"a\": [\n    1,\n    {\n      \"x\": \"\\u00e9 {,:\\\"\\\\\"\n    },\n    []\n  ],\n  \"e\": {}\n}\n";
        assert_eq!(shown(value).as_deref(), Ok(lines));
        assert_eq!(
            shown("12345678901234567890").as_deref(),
            Ok("12345678901234567890\n")
        );
        assert_eq!(shown("hunter2"), Err(RenderError::NotJson));
        let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
        assert_eq!(shown(&deep), Err(RenderError::TooDeep));
    }

    #[test]
    fn the_buffer_never_moves() {
        for value in [r#"{"a":{"b":[1,2,{"c":"d"}]}}"#, "[[[[1,2],[3]]],4]", "1"] {
            let bytes = pretty(value).unwrap();
            assert!(bytes.len() <= capacity(value).unwrap());
        }
    }
}
