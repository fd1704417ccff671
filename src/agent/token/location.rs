//! Token or token file, as the environment names it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kms_agent_server::Token;
use zeroize::Zeroizing;

use crate::exit::Failure;

/// Value of a token variable.
pub(crate) enum TokenLocation {
    /// Token itself.
    Literal {
        text: Zeroizing<String>,
        /// The value had quotes around it.
        is_quoted: bool,
    },
    /// Token file.
    File(PathBuf),
}

/// Parses the first of `variables` that is set, even if it is empty. `lookup` reads the environment.
pub(crate) fn find(
    variables: &[String],
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<TokenLocation, Failure> {
    let Some((name, value)) = variables
        .iter()
        .find_map(|name| Some((name, lookup(name)?)))
    else {
        let name = variables.first().map_or("KMS_TOKEN", String::as_str);
        return Err(Failure::config(format!(
            "no token: none of {} is set. Set {name}=file:///path/to/kmstoken (the agent makes a missing file)",
            variables.join(", ")
        )));
    };
    let value = value
        .into_string()
        .map(Zeroizing::new)
        .map_err(|_| Failure::config(format!("{name} is not UTF-8 text")))?;
    parse(&value, name).map_err(|message| Failure::config(format!("{name} {message}")))
}

fn parse(value: &str, name: &str) -> Result<TokenLocation, String> {
    let written = value.trim();
    let value = unquoted(written);
    if let Some(path) = value.strip_prefix("file://") {
        return if path.is_empty() {
            Err(format!(
                "names no file; write {name}=file:///path/to/kmstoken"
            ))
        } else {
            Ok(TokenLocation::File(PathBuf::from(path)))
        };
    }
    if value.starts_with(['/', '.']) || value.starts_with("file:") {
        let path = value.strip_prefix("file:").unwrap_or(value);
        // Only an existing path is repeated, since a token might begin like a path.
        let shown = if Path::new(path).exists() {
            path
        } else {
            "/path/to/kmstoken"
        };
        return Err(format!(
            "looks like a path and not like a token; write {name}=file://{shown}"
        ));
    }
    match Token::parse(value.as_bytes()) {
        Ok(_) => Ok(TokenLocation::Literal {
            text: Zeroizing::new(value.to_owned()),
            is_quoted: value.len() < written.len(),
        }),
        Err(error) => Err(format!(
            "holds no token: {error}. Write a token, or {name}=file:///path/to/kmstoken"
        )),
    }
}

/// Removes the quotes that some compose files put around a value.
fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
        {
            return inner.trim();
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &str) -> String {
        match parse(value, "KMS_TOKEN") {
            Ok(TokenLocation::Literal { .. }) => "token".to_owned(),
            Ok(TokenLocation::File(path)) => path.display().to_string(),
            Err(message) => message,
        }
    }

    #[test]
    fn a_value_is_a_token_or_a_file_with_or_without_quotes() {
        for value in [
            "0123456789abcdef",
            " 0123456789abcdef\n",
            "'0123456789abcdef'",
            "\"0123456789abcdef\"",
        ] {
            assert_eq!(parsed(value), "token");
        }
        for value in [
            "file:///run/kmstoken",
            "'file:///run/kmstoken'",
            "\"file:///run/kmstoken\"",
        ] {
            assert_eq!(parsed(value), "/run/kmstoken");
        }
        assert_eq!(parsed("file://kmstoken"), "kmstoken");
    }

    #[test]
    fn what_is_neither_gets_the_corrected_line_and_is_not_repeated() {
        for (value, expected) in [
            ("", "it is empty"),
            ("''", "is empty"),
            ("hunter2", "7 characters"),
            (
                "/no/such/hunter2",
                "write KMS_TOKEN=file:///path/to/kmstoken",
            ),
            ("./hunter2", "write KMS_TOKEN=file:///path/to/kmstoken"),
            (
                "file:/no/such/hunter2",
                "write KMS_TOKEN=file:///path/to/kmstoken",
            ),
            ("file://", "write KMS_TOKEN=file:///path/to/kmstoken"),
            ("hunter2 hunter2 hunter2", "visible ASCII"),
        ] {
            let message = parsed(value);
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
