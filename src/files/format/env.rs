//! Environment files, which sh, bash and systemd read alike.

use kms_agent_core::member::{self, MemberError};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::RenderError;

/// Returns one line for each member of the JSON object `value`, or for those named.
///
/// A value of safe characters stands bare, since Docker's `--env-file` takes quotes for a part of the value. Others
/// stand in double quotes, with a backslash before the four characters that have a meaning there.
pub(super) fn render(value: &str, names: &[String]) -> Result<Zeroizing<Vec<u8>>, RenderError> {
    let object = member::parse(value).ok_or(RenderError::NotJson)?;
    let members = member::members(object).ok_or(RenderError::NotAnObject)?;
    // Every byte may get a backslash, and a member gets at most as many quotes and breaks as JSON has for it.
    let mut lines = Zeroizing::new(Vec::with_capacity(2 * value.len() + 16));
    if names.is_empty() {
        for (index, (name, value)) in members.iter().enumerate() {
            let name = name
                .as_deref()
                .ok_or_else(|| RenderError::VariableName("whose name is not text".to_owned()))?;
            let is_repeated = members
                .iter()
                .skip(index + 1)
                .any(|(later, _)| later.as_ref().is_some_and(|later| **later == *name));
            if !is_repeated {
                write_variable(&mut lines, name, value)?;
            }
        }
    } else {
        for name in names {
            let value = member::last_member(object, name)
                .ok_or_else(|| MemberError::Missing(name.clone()))?;
            write_variable(&mut lines, name, value)?;
        }
    }
    Ok(lines)
}

fn write_variable(lines: &mut Vec<u8>, name: &str, value: &RawValue) -> Result<(), RenderError> {
    if !is_identifier(name) {
        return Err(RenderError::VariableName(shown(name)));
    }
    let text = if value.get().starts_with('"') {
        member::text(value).ok_or_else(|| MemberError::NotText(name.to_owned()))?
    } else {
        Zeroizing::new(value.get().to_owned())
    };
    if text.chars().any(is_unreadable) {
        return Err(RenderError::VariableValue(name.to_owned()));
    }
    lines.extend(name.bytes());
    lines.push(b'=');
    if text.bytes().all(is_safe) {
        lines.extend(text.bytes());
    } else {
        lines.push(b'"');
        for byte in text.bytes() {
            if matches!(byte, b'"' | b'\\' | b'$' | b'`') {
                lines.push(b'\\');
            }
            lines.push(byte);
        }
        lines.push(b'"');
    }
    lines.push(b'\n');
    Ok(())
}

/// Whether shells and systemd take `name` for the name of a variable.
fn is_identifier(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(is_letter)
        && name
            .bytes()
            .all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

/// Whether a reader of environment files drops or changes the character. systemd refuses Unicode's noncharacters.
fn is_unreadable(character: char) -> bool {
    let code = u32::from(character);
    let is_noncharacter = (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe;
    is_noncharacter || (character.is_control() && !matches!(character, '\t' | '\n'))
}

/// Whether the character has no meaning to any reader, wherever it stands.
fn is_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-./:,+@%=".contains(&byte)
}

/// Returns a name from a value as a message may show it.
fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
