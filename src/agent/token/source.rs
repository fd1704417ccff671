//! Source of the agent's token: the environment or a file.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use kms_agent_server::Token;

use super::file::{self, TokenFileId, Unusable};
use super::location::{TokenLocation, find};
use super::{draw, strength};
use crate::exit::Failure;

/// Source of the agent's token.
#[derive(Debug)]
pub(crate) enum TokenSource {
    /// Token in the environment itself.
    Literal { token: Token, warnings: Vec<String> },
    /// Token in a file.
    File(PathBuf),
}

/// Token at startup.
#[derive(Debug)]
pub(crate) struct First {
    pub(crate) token: Token,
    /// The file that it was read from.
    pub(crate) file: Option<TokenFileId>,
    /// Warnings for the operator, without the token.
    pub(crate) warnings: Vec<String>,
}

impl TokenSource {
    /// Finds the source as [`find`] does.
    pub(crate) fn find(
        variables: &[String],
        lookup: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Failure> {
        match find(variables, lookup)? {
            TokenLocation::Literal { text, is_quoted } => {
                let mut source = Self::literal(&text)?;
                if let Self::Literal { warnings, .. } = &mut source {
                    warnings.extend(strength::weakness(text.as_bytes()));
                    if is_quoted {
                        warnings.push(QUOTED.to_owned());
                    }
                }
                Ok(source)
            }
            TokenLocation::File(path) => Ok(Self::File(path)),
        }
    }

    /// Uses `text` as the token.
    pub(crate) fn literal(text: &str) -> Result<Self, Failure> {
        let token = Token::parse(text.as_bytes())
            .map_err(|error| Failure::config(format!("no valid token: {error}")))?;
        Ok(Self::Literal {
            token,
            warnings: Vec::new(),
        })
    }

    /// Returns the path of a token file.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Literal { .. } => None,
            Self::File(path) => Some(path),
        }
    }

    /// Returns the token at startup. A missing file is created.
    pub(crate) fn open(&self) -> Result<First, Failure> {
        let path = match self {
            Self::Literal { token, warnings } => {
                return Ok(First {
                    token: *token,
                    file: None,
                    warnings: warnings.clone(),
                });
            }
            Self::File(path) => path,
        };
        let look = match file::look(path) {
            Err(error) if error.is_missing() => {
                let token = draw()
                    .map_err(|error| Failure::failed(format!("no token can be drawn: {error}")))?;
                file::create(path, &token)
                    .and_then(|()| file::look(path))
                    .map_err(|error| cannot_be_made(path, &error))?
            }
            look => look.map_err(|error| refused(path, &error))?,
        };
        let token = Token::parse(&look.bytes).map_err(|error| invalid(path, &error))?;
        Ok(First {
            token,
            file: Some(look.id),
            warnings: warnings(&look).collect(),
        })
    }

    /// Describes what [`open`](Self::open) would find, without creating a file.
    pub(crate) fn examine(&self) -> Result<String, Failure> {
        let path = match self {
            Self::Literal { warnings, .. } => {
                return Ok(with_warnings("in the environment itself", warnings));
            }
            Self::File(path) => path,
        };
        let shown = path.display();
        match file::look(path) {
            Err(error) if error.is_missing() => file::may_be_made(path)
                .map(|()| format!("{shown} is missing; the agent will make it"))
                .map_err(|error| cannot_be_made(path, &error)),
            look => {
                let look = look.map_err(|error| refused(path, &error))?;
                let warnings: Vec<String> = warnings(&look).collect();
                Token::parse(&look.bytes)
                    .map(|_| with_warnings(&shown.to_string(), &warnings))
                    .map_err(|error| invalid(path, &error))
            }
        }
    }
}

/// Warning about a quoted variable, which applications use with its quotes.
const QUOTED: &str = "the token in the environment stands in quotes, which are not part of it; an application that \
                      puts the same variable into its header as it is sends the quotes too and is refused";

/// Returns warnings about a token file.
pub(super) fn warnings(look: &file::Look) -> impl Iterator<Item = String> {
    let weakness = strength::weakness(look.bytes.trim_ascii());
    look.warning.clone().into_iter().chain(weakness)
}

fn with_warnings(found: &str, warnings: &[String]) -> String {
    let mut text = found.to_owned();
    for warning in warnings {
        text.push_str("; warning: ");
        text.push_str(warning);
    }
    text
}

/// Returns the failure to use an existing token file.
fn refused(path: &Path, error: &Unusable) -> Failure {
    match error {
        Unusable::Untrusted(refusal) => Failure::config(format!(
            "the token file {} is not used: {refusal}",
            path.display()
        )),
        Unusable::Failed(error) => unreadable(path, error),
    }
}

/// Returns the failure to create a missing token file.
fn cannot_be_made(path: &Path, error: &Unusable) -> Failure {
    let error = match error {
        Unusable::Untrusted(_) => return refused(path, error),
        Unusable::Failed(error) => error,
    };
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

/// Returns the failure to read an existing token file.
fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        _ if path.is_dir() => "Name a file, not a folder".to_owned(),
        // A new token would lock out every application, and its file might be unreadable again.
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

/// Returns the failure to parse the content of a token file.
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

#[cfg(test)]
mod tests {
    use super::*;

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
