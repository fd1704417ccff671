//! Keys set by environment variables: `KMS_AGENT_<TABLE>_<KEY>`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use super::raw::RawValue;

/// Prefix of every variable that sets a key.
pub(super) const PREFIX: &str = "KMS_AGENT_";

/// Protocols of a Kubernetes service.
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// The name of the variable that sets `key`, a full key such as `Cache.TtlSeconds`: prefix, tables and key in upper
/// snake case. A run of capitals is one word, so that `SSRFHeaders` is `SSRF_HEADERS`.
pub fn variable_name(key: &str) -> String {
    let mut name = PREFIX.to_owned();
    for (index, part) in key.split('.').enumerate() {
        if index > 0 {
            name.push('_');
        }
        let letters: Vec<char> = part.chars().collect();
        let mut before: Option<char> = None;
        for (at, letter) in letters.iter().enumerate() {
            let after = letters.get(at + 1);
            let begins_word = letter.is_ascii_uppercase()
                && before.is_some_and(|before| {
                    !before.is_ascii_uppercase() || after.is_some_and(char::is_ascii_lowercase)
                });
            if begins_word {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
            before = Some(*letter);
        }
    }
    name
}

/// The variables that set keys, as they were when the process started. They override the file.
#[derive(Clone, Default)]
pub struct Overrides(BTreeMap<String, VariableText>);

/// The text of a variable; `None` where it is not UTF-8.
type VariableText = Option<String>;

impl Overrides {
    /// Keeps the variables that have the prefix. Those that Kubernetes makes for a service whose name begins with
    /// `kms-agent` are not meant for the agent, and are left out.
    pub fn collect(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let named = variables.into_iter().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let value = value.into_string().ok();
            let is_meant = name.starts_with(PREFIX) && !is_of_kubernetes(&name, value.as_deref());
            is_meant.then_some((name, value))
        });
        Self(named.collect())
    }

    /// The names of all of them, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The value of `name` for a key that is read as `kind`; `None` where the variable is not set.
    pub(super) fn get(&self, name: &str, kind: ScalarKind) -> Option<RawValue> {
        Some(match self.0.get(name)? {
            Some(text) => kind.parse(unquoted(text.trim())),
            None => RawValue::Other,
        })
    }
}

impl fmt::Debug for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The type that a key has.
#[derive(Clone, Copy, Debug)]
pub(super) enum ScalarKind {
    Boolean,
    Integer,
    String,
}

impl ScalarKind {
    /// Text of another type stays text, which the reader of the key then refuses.
    fn parse(self, text: &str) -> RawValue {
        let other = || RawValue::String(text.to_owned());
        match self {
            Self::Boolean if text.eq_ignore_ascii_case("true") => RawValue::Bool(true),
            Self::Boolean if text.eq_ignore_ascii_case("false") => RawValue::Bool(false),
            Self::Integer if is_digits(text) => RawValue::Integer(text.parse().unwrap_or(i64::MAX)),
            _ => other(),
        }
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Without the quotes that env files and compose lists leave around a value.
fn unquoted(text: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(text)
}

/// Whether Kubernetes makes such a variable for each service: `…_SERVICE_HOST`, `…_SERVICE_PORT`, `…_PORT` with a URL
/// as its value, `…_PORT_2025_TCP` and `…_PORT_2025_TCP_ADDR`.
fn is_of_kubernetes(name: &str, value: Option<&str>) -> bool {
    if name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
    {
        return true;
    }
    if name.ends_with("_PORT")
        && value.is_some_and(|value| {
            PROTOCOLS.iter().any(|protocol| {
                let scheme = value.split_once("://").map(|(scheme, _)| scheme);
                scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(protocol))
            })
        })
    {
        return true;
    }
    name.split("_PORT_").skip(1).any(|rest| {
        let mut words = rest.split('_');
        words.next().is_some_and(is_digits)
            && words.next().is_some_and(|word| PROTOCOLS.contains(&word))
            && matches!(words.next(), None | Some("PROTO" | "PORT" | "ADDR"))
            && words.next().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(variables: &[(&str, &str)]) -> Overrides {
        Overrides::collect(
            variables
                .iter()
                .map(|(name, value)| (OsString::from(name), OsString::from(value))),
        )
    }

    #[test]
    fn a_name_is_the_key_in_upper_snake_case() {
        for (key, name) in [
            ("Cache.TtlSeconds", "KMS_AGENT_CACHE_TTL_SECONDS"),
            ("Server.HttpPort", "KMS_AGENT_SERVER_HTTP_PORT"),
            ("Server.SSRFHeaders", "KMS_AGENT_SERVER_SSRF_HEADERS"),
            ("KMS.CaFile", "KMS_AGENT_KMS_CA_FILE"),
            ("Cache.Persistent.Path", "KMS_AGENT_CACHE_PERSISTENT_PATH"),
            ("Cache.Redis.KmsKeyId", "KMS_AGENT_CACHE_REDIS_KMS_KEY_ID"),
            (
                "Cache.InMemory.Http2Url",
                "KMS_AGENT_CACHE_IN_MEMORY_HTTP2_URL",
            ),
        ] {
            assert_eq!(variable_name(key), name);
        }
    }

    #[test]
    fn variables_of_a_kubernetes_service_are_left_out() {
        let injected = [
            ("KMS_AGENT_SERVICE_HOST", "10.0.0.1"),
            ("KMS_AGENT_SERVICE_PORT", "2025"),
            ("KMS_AGENT_SERVICE_PORT_HTTP", "2025"),
            ("KMS_AGENT_PORT", "tcp://10.0.0.1:2025"),
            ("KMS_AGENT_PORT_2025_TCP", "tcp://10.0.0.1:2025"),
            ("KMS_AGENT_PORT_2025_TCP_PROTO", "tcp"),
            ("KMS_AGENT_PORT_2025_TCP_PORT", "2025"),
            ("KMS_AGENT_PORT_2025_TCP_ADDR", "10.0.0.1"),
            ("KMS_AGENT_PORT_53_UDP", "udp://10.0.0.1:53"),
            ("KMS_AGENT_SERVER_HTTP_PORT", "tcp://10.0.0.1:80"),
            ("KMS_AGENT_SERVER_HTTP_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("KMS_AGENT_CACHE_SERVICE_HOST", "10.0.0.1"),
        ];
        assert_eq!(overrides(&injected).names().count(), 0);
        let meant = [
            ("KMS_AGENT_PORT", "2025"),
            ("KMS_AGENT_SERVER_HTTP_PORT", "2025"),
            ("KMS_AGENT_LOG_PORT_X_TCP", "1"),
        ];
        assert_eq!(overrides(&meant).names().count(), meant.len());
    }

    #[test]
    fn white_space_and_quotes_around_a_value_do_not_count() {
        for text in ["60", " 60\n", "\"60\"", "'60'"] {
            let set = overrides(&[("KMS_AGENT_X", text)]);
            let value = set.get("KMS_AGENT_X", ScalarKind::Integer);
            assert!(matches!(value, Some(RawValue::Integer(60))), "{text}");
        }
        let set = overrides(&[("KMS_AGENT_X", "\"60")]);
        let value = set.get("KMS_AGENT_X", ScalarKind::Integer);
        assert!(matches!(value, Some(RawValue::String(_))));
    }

    #[test]
    fn no_value_is_shown() {
        let set = overrides(&[("KMS_AGENT_X", "hunter2")]);
        assert_eq!(format!("{set:?}"), "{\"KMS_AGENT_X\"}");
    }
}
