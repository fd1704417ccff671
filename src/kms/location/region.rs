//! Region ids.

use std::fmt;
use std::sync::Arc;

/// Description of a valid region id.
pub(crate) const ALLOWED: &str = "a region id such as cn-hangzhou";

/// The id of an Alibaba Cloud region. Host names are made of it, so it is checked strictly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region(Arc<str>);

impl Region {
    /// Accepts lower-case letters, digits and inner hyphens, beginning with a letter. What is wrong is said
    /// without repeating the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let ok = text.len() <= 63
            && text.contains('-')
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && !text.ends_with('-')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if ok {
            Ok(Self(text.into()))
        } else {
            Err(format!("must be {ALLOWED}"))
        }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_a_region_becomes_part_of_a_host_name() {
        for good in ["cn-hangzhou", "us-east-1", "cn-heyuan-acdr-1"] {
            assert!(Region::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "hangzhou",
            "CN-hangzhou",
            "cn-hangzhou.evil.example",
            "cn-",
            "-cn",
            "1-cn",
            "cn hangzhou",
            "cn-hangzhou\n",
        ] {
            assert!(Region::parse(bad).is_err(), "{bad}");
        }
    }
}
