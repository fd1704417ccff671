//! Patterns of secret ids, as the config file spells them.

use std::fmt;

use crate::secret::{InvalidText, SecretId};

/// Begins every ARN, and no name of a secret.
const ARN_PREFIX: &str = "acs:";

/// Pattern of secret ids: `*` stands for any characters, `?` for one, as in RAM policies.
///
/// The id is compared as asked, byte for byte. An ARN is matched only by a pattern that begins with `acs:` or is
/// `*`, so that a pattern of names does not match by chance in the ARN of another account.
///
/// ```
/// use kms_agent_core::SecretId;
/// use kms_agent_core::pattern::Pattern;
///
/// let pattern = Pattern::parse("app/*").unwrap();
/// assert!(pattern.matches(&SecretId::parse("app/db").unwrap()));
/// assert!(!pattern.matches(&SecretId::parse("web/db").unwrap()));
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Accepts 1 to [`MAX_ID_BYTES`](crate::secret::MAX_ID_BYTES) bytes without control characters.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        SecretId::parse(text).map(|_| Self(text.into()))
    }

    /// The pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern matches every id.
    pub fn is_any(&self) -> bool {
        &*self.0 == "*"
    }

    /// Whether the pattern matches `id`.
    pub fn matches(&self, id: &SecretId) -> bool {
        let id = id.as_str();
        if self.is_any() {
            return true;
        }
        if id.starts_with(ARN_PREFIX) && !self.0.starts_with(ARN_PREFIX) {
            return false;
        }
        matches(&self.0, id)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Compares from left to right, and returns to the last `*` only. The steps are bounded by the
/// product of the lengths, and both texts are short.
fn matches(pattern: &str, text: &str) -> bool {
    let (mut wanted, mut given) = (pattern.chars(), text.chars());
    // The rest of the pattern after the last `*`, and the rest of the text that `*` has not taken yet.
    let mut retry = None;
    loop {
        let left = given.clone();
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                retry = Some((wanted.clone(), left.clone()));
                given = left;
            }
            (Some('?'), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => {
                let Some((after, mut rest)) = retry.take() else {
                    return false;
                };
                if rest.next().is_none() {
                    return false;
                }
                (wanted, given) = (after.clone(), rest.clone());
                retry = Some((after, rest));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, id: &str) -> bool {
        let id = SecretId::parse(id).expect("valid id");
        Pattern::parse(pattern).expect("valid pattern").matches(&id)
    }

    #[test]
    fn a_star_stands_for_any_characters_and_a_question_mark_for_one() {
        for (pattern, id, expected) in [
            ("app/db", "app/db", true),
            ("app/db", "app/db2", false),
            ("app/db", "app/d", false),
            ("App/db", "app/db", false),
            ("app/*", "app/", true),
            ("app/*", "app/a/b", true),
            ("app/*", "app", false),
            ("*/db", "a/db/db", true),
            ("*/db", "a/db/x", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("**", "a", true),
            ("?", "ü", true),
            ("?", "ab", false),
            ("app/?b*", "app/db", true),
            ("app/?", "app/", false),
            ("*?", "a", true),
        ] {
            assert_eq!(is_match(pattern, id), expected, "{pattern} {id}");
        }
    }

    #[test]
    fn an_arn_is_matched_only_by_a_pattern_of_arns_or_the_one_of_everything() {
        let arn = "acs:kms:cn-hangzhou:1:secret/app/db";
        for (pattern, expected) in [
            ("*", true),
            ("acs:*", true),
            ("acs:kms:*:1:secret/app/*", true),
            ("acs:kms:*:2:secret/app/*", false),
            ("**", false),
            ("*app/db", false),
            ("a*", false),
            (arn, true),
        ] {
            assert_eq!(is_match(pattern, arn), expected, "{pattern}");
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_the_product_of_the_lengths() {
        let id = "a".repeat(512);
        assert!(!is_match(&format!("{}b", "*a".repeat(250)), &id));
        assert!(is_match(&"*a".repeat(250), &id));
    }
}
