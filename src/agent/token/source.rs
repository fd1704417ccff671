//! The token as the environment gives it, and the file behind it while the agent runs.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kms_agent_core::{Clock, run_blocking};
use kms_agent_server::{Token, TokenStore};
use zeroize::Zeroizing;

use super::{draw, file};
use crate::exit::Failure;

/// How often the file is looked at. A change counts within two seconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the environment says of the token.
pub(crate) enum Found {
    /// The token itself.
    Literal(Zeroizing<String>),
    /// The file that holds it.
    File(PathBuf),
}

/// Looks at the first of `variables` that is set, even if it is empty. `lookup` reads the environment.
pub(crate) fn find(
    variables: &[String],
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<Found, Failure> {
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

fn parse(value: &str, name: &str) -> Result<Found, String> {
    let value = unquoted(value.trim());
    if let Some(path) = value.strip_prefix("file://") {
        return if path.is_empty() {
            Err(format!(
                "names no file; write {name}=file:///path/to/kmstoken"
            ))
        } else {
            Ok(Found::File(PathBuf::from(path)))
        };
    }
    if value.starts_with(['/', '.']) || value.starts_with("file:") {
        let path = value.strip_prefix("file:").unwrap_or(value);
        // Only what is a path for sure is repeated: a token might begin like one.
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
        Ok(_) => Ok(Found::Literal(Zeroizing::new(value.to_owned()))),
        Err(error) => Err(format!(
            "holds no token: {error}. Write a token, or {name}=file:///path/to/kmstoken"
        )),
    }
}

/// Where the agent's own token stands.
#[derive(Debug)]
pub(crate) enum TokenSource {
    /// In the environment itself.
    Literal(Token),
    /// In a file.
    File(PathBuf),
}

impl TokenSource {
    /// As [`find`] finds it.
    pub(crate) fn find(
        variables: &[String],
        lookup: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Failure> {
        match find(variables, lookup)? {
            Found::Literal(text) => Self::literal(&text),
            Found::File(path) => Ok(Self::File(path)),
        }
    }

    /// `text` is the token.
    pub(crate) fn literal(text: &str) -> Result<Self, Failure> {
        Token::parse(text.as_bytes())
            .map(Self::Literal)
            .map_err(|error| Failure::config(format!("no valid token: {error}")))
    }

    /// The file, if it is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Literal(_) => None,
            Self::File(path) => Some(path),
        }
    }

    /// The token to begin with. A missing file is made.
    pub(crate) fn open(&self) -> Result<Token, Failure> {
        let path = match self {
            Self::Literal(token) => return Ok(*token),
            Self::File(path) => path,
        };
        let bytes = match file::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let token = draw()
                    .map_err(|error| Failure::failed(format!("no token can be drawn: {error}")))?;
                file::create(path, &token)
                    .and_then(|()| file::read(path))
                    .map_err(|error| cannot_be_made(path, &error))?
            }
            result => result.map_err(|error| unreadable(path, &error))?,
        };
        Token::parse(&bytes).map_err(|error| invalid(path, &error))
    }

    /// Says what [`open`](Self::open) will find, and makes nothing.
    pub(crate) fn examine(&self) -> Result<String, Failure> {
        let path = match self {
            Self::Literal(_) => return Ok("in the environment itself".to_owned()),
            Self::File(path) => path,
        };
        let shown = path.display();
        match file::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => file::may_be_made(path)
                .map(|()| format!("{shown} is missing; the agent will make it"))
                .map_err(|error| cannot_be_made(path, &error)),
            result => {
                let bytes = result.map_err(|error| unreadable(path, &error))?;
                Token::parse(&bytes)
                    .map(|_| shown.to_string())
                    .map_err(|error| invalid(path, &error))
            }
        }
    }

    /// Keeps `store` in step with the file, for as long as it is polled. A file that is missing, empty or
    /// invalid leaves the old token in force.
    pub(crate) async fn watch(self: Arc<Self>, store: Arc<TokenStore>, clock: Arc<dyn Clock>) {
        let Self::File(path) = &*self else { return };
        loop {
            clock.sleep_until(clock.boot() + LOOK_EVERY).await;
            let read = {
                let path = path.clone();
                run_blocking(move || look(&path)).await
            };
            match read.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(token) => store.replace(token),
                Err(reason) => {
                    if !store.is_stuck() {
                        tracing::warn!(
                            path = %path.display(),
                            reason,
                            "The token file cannot be used; the last token stays in force"
                        );
                    }
                    store.set_stuck(true);
                }
            }
        }
    }
}

/// The failure to make a missing token file.
fn cannot_be_made(path: &Path, error: &io::Error) -> Failure {
    let shown = path.display();
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    let advice = match folder {
        Some(folder) => format!(
            "Make the folder {} first, writable for the agent",
            folder.display()
        ),
        None => renew(path),
    };
    let what = format_args!("the token file {shown}: it is missing and cannot be made");
    Failure::of_io(what, error, &advice)
}

/// The failure to read a token file that exists.
fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        _ if path.is_dir() => "Name a file, not a folder".to_owned(),
        // A new token would cut off every application, and its file might be unreadable again.
        io::ErrorKind::PermissionDenied => {
            "Let the agent's user read it and enter the folders above it (chown, chmod)".to_owned()
        }
        _ => renew(path),
    };
    Failure::of_io(
        format_args!("the token file {}", path.display()),
        error,
        &advice,
    )
}

/// The failure to take what a token file holds for a token.
fn invalid(path: &Path, error: &dyn fmt::Display) -> Failure {
    Failure::config(format!(
        "the token file {}: {error}. {}",
        path.display(),
        renew(path)
    ))
}

fn renew(path: &Path) -> String {
    let shown = path.display();
    format!("Make a new one with: alibabacloud-kms-agent token {shown}")
}

fn look(path: &Path) -> Result<Token, String> {
    let bytes = file::read(path).map_err(|error| error.to_string())?;
    Token::parse(&bytes).map_err(|error| error.to_string())
}

/// Without the quotes that compose files in the wild put around a value.
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
            Ok(Found::Literal(_)) => "token".to_owned(),
            Ok(Found::File(path)) => path.display().to_string(),
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

    #[test]
    fn the_first_variable_that_is_set_counts_even_when_empty() {
        let variables = ["A".to_owned(), "B".to_owned()];
        let lookup = |name: &str| match name {
            "A" => Some(OsString::new()),
            _ => Some("0123456789abcdef".into()),
        };
        assert!(TokenSource::find(&variables, lookup).is_err());
        let lookup = |name: &str| (name == "B").then(|| "0123456789abcdef".into());
        assert!(TokenSource::find(&variables, lookup).is_ok());
        assert!(TokenSource::find(&variables, |_| None).is_err());
    }
}
