//! The one spelling of a call that both sides hash.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

/// Everything but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Percent-encodes `text`: a space becomes `%20`, never `+`.
pub(crate) fn encode(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, RESERVED)
}

/// `key=value&…`, encoded and sorted: a query string or a form. It may hold a token, so its buffer is made
/// large enough at once and wiped.
pub(crate) fn encode_pairs(pairs: &[(&str, &str)]) -> Zeroizing<String> {
    let mut pairs = pairs.to_vec();
    pairs.sort_unstable();
    let longest = pairs
        .iter()
        .map(|(key, value)| 3 * (key.len() + value.len()) + 2)
        .sum();
    let mut text = Zeroizing::new(String::with_capacity(longest));
    for (key, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        text.extend(utf8_percent_encode(key, RESERVED));
        text.push('=');
        text.extend(utf8_percent_encode(value, RESERVED));
    }
    text
}

/// `name:value` lines of headers that are sorted already.
pub(super) fn canonical_headers(headers: &[(&str, Zeroizing<String>)]) -> Zeroizing<String> {
    let length = headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + 2)
        .sum();
    let mut text = Zeroizing::new(String::with_capacity(length));
    for (name, value) in headers {
        text.push_str(name);
        text.push(':');
        text.push_str(value.trim());
        text.push('\n');
    }
    text
}

/// The names of headers that are sorted already.
pub(super) fn signed_headers(headers: &[(&str, Zeroizing<String>)]) -> String {
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    names.join(";")
}

/// The whole of an RPC call.
pub(super) fn canonical_request(
    query: &str,
    headers: &str,
    names: &str,
    body_hash: &str,
) -> Zeroizing<String> {
    Zeroizing::new(["POST", "/", query, headers, names, body_hash].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreserved_characters_stay_as_they_are() {
        assert_eq!(encode("aZ09-_.~").to_string(), "aZ09-_.~");
        assert_eq!(
            encode("a/b+c=d@e f*'ü").to_string(),
            "a%2Fb%2Bc%3Dd%40e%20f%2A%27%C3%BC"
        );
    }

    #[test]
    fn parameters_are_sorted_and_an_empty_value_keeps_its_sign() {
        assert_eq!(*encode_pairs(&[("b", "2"), ("a", "")]), "a=&b=2");
        assert_eq!(*encode_pairs(&[]), "");
    }
}
