//! The process environment as a value: nothing in here asks the process for it.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

/// Variables that count besides `ALIBABA_CLOUD_…`.
const OTHER_NAMES: [&str; 5] = ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "HOME"];

/// The variables that concern the fetcher, as they were when the process started. Others are not kept.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, Zeroizing<String>>);

impl Environment {
    /// The value of `name` without the white space around it, which files and secrets of Kubernetes leave
    /// behind; `None` if it is unset or empty.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// Whether the value of `name` stands in quotation marks, which are part of it.
    pub(crate) fn is_quoted(&self, name: &str) -> bool {
        let value = self.given(name).unwrap_or_default();
        value.len() > 1
            && ['"', '\'']
                .iter()
                .any(|mark| value.starts_with(*mark) && value.ends_with(*mark))
    }

    /// The names of all variables whose values stand in quotation marks.
    pub(crate) fn quoted(&self) -> impl Iterator<Item = &str> {
        let names = self.0.keys().map(String::as_str);
        names.filter(|name| self.is_quoted(name))
    }

    /// Whether `name` says `true`, in any case.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.given(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), Zeroizing::new(value.into())))
                .filter(|(name, _)| {
                    name.starts_with("ALIBABA_CLOUD_") || OTHER_NAMES.contains(&name.as_str())
                })
                .collect(),
        )
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_an_unset_one_and_no_value_is_ever_shown() {
        let environment: Environment = [
            ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "hunter2"),
            ("ALIBABA_CLOUD_PROFILE", ""),
            ("ALIBABA_CLOUD_IMDSV1_DISABLED", "TRUE"),
            ("DATABASE_URL", "elsewhere"),
        ]
        .into_iter()
        .collect();
        assert_eq!(
            environment.given("ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
            Some("hunter2")
        );
        assert_eq!(environment.given("ALIBABA_CLOUD_PROFILE"), None);
        assert!(environment.flag("ALIBABA_CLOUD_IMDSV1_DISABLED"));
        assert_eq!(environment.given("DATABASE_URL"), None);
        assert!(!format!("{environment:?}").contains("hunter2"));
    }
}
