//! Foreign text on a terminal, in which nothing moves the cursor, hides text or reorders it.

use std::borrow::Cow;
use std::fmt::Write;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Returns `text` in one line, with control characters, line breaks and invisible marks (bidirectional, zero width,
/// byte order) as escapes.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    escaped(text, |text, character| match character {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        _ => {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\u{{{:x}}}", u32::from(character));
        }
    })
}

/// Escapes as [`shown`] does, but keeps the line breaks.
pub(crate) fn shown_lines(text: &str) -> String {
    text.split('\n').map(shown).collect::<Vec<_>>().join("\n")
}

/// Replaces those characters by their JSON escapes, so that the meaning stays. White space between members stays.
pub(crate) fn shown_json(json: &str) -> Cow<'_, str> {
    if json.contains('\r') || json.chars().any(is_hidden) {
        let lines: Vec<_> = json
            .split(['\n', '\r'])
            .map(|line| {
                escaped(line, |text, character| {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        // Writing to a String cannot fail.
                        let _ = write!(text, "\\u{unit:04x}");
                    }
                })
            })
            .collect();
        Cow::Owned(lines.join("\n"))
    } else {
        Cow::Borrowed(json)
    }
}

fn escaped(text: &str, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() * 2);
    for character in text.chars() {
        if is_hidden(character) {
            escape(&mut escaped, character);
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

fn is_hidden(character: char) -> bool {
    matches!(
        character.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_or_hide_becomes_an_escape() {
        for (text, expected) in [
            ("plain, ünïcödé 密码 😀 \\n", "plain, ünïcödé 密码 😀 \\n"),
            ("a\nerror: b\r\tc", "a\\nerror: b\\r\\tc"),
            ("\u{1b}]0;x\u{7}\u{1b}[2J", "\\u{1b}]0;x\\u{7}\\u{1b}[2J"),
            ("\u{9b}2J\u{7f}\0", "\\u{9b}2J\\u{7f}\\u{0}"),
            (
                "\u{202e}\u{2066}\u{200b}\u{feff}",
                "\\u{202e}\\u{2066}\\u{200b}\\u{feff}",
            ),
            (
                "\u{ad}\u{61c}\u{2028}\u{e0041}",
                "\\u{ad}\\u{61c}\\u{2028}\\u{e0041}",
            ),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert_eq!(shown_lines("a\nb\u{1b}"), "a\nb\\u{1b}");
    }

    #[test]
    fn escaped_json_says_the_same() {
        let value = serde_json::json!({"a\u{202e}": "\u{9b}\u{e0041} 密码 \n\u{7f}"});
        let text = format!(" {}\r\n", serde_json::to_string_pretty(&value).unwrap());
        let escaped = shown_json(&text);
        assert!(
            !escaped.chars().any(|c| c != '\n' && is_hidden(c)),
            "{escaped}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&escaped).unwrap(),
            value
        );
        assert!(matches!(shown_json(r#"{"a":1}"#), Cow::Borrowed(_)));
        assert!(escaped.contains("\\udb40\\udc41"), "{escaped}");
    }
}
