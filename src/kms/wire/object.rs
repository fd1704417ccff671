use serde::Deserialize;

/// Reads a JSON object; `None` for anything else. Why is not said: the reason would quote the text.
pub(crate) fn parse_object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    let text = std::str::from_utf8(body).ok()?;
    // A list of the members' values would pass for the object, too.
    if !text.trim_start().starts_with('{') {
        return None;
    }
    serde_json::from_str(text).ok()
}
