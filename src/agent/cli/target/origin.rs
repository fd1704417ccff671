//! The place where a client command finds the agent's token.

use std::fmt;
use std::path::Path;

use crate::exit::Failure;
use crate::platform;
use crate::token::location::{TokenLocation, find};

/// Variable that names the token file if no token variable is set; the documented client programs read it too.
const FILE_VARIABLE: &str = "KMS_TOKEN_FILE";

/// Token file of the deployment files, which is read where no variable is set.
const DEFAULT_FILE: &str = "/var/run/kmstoken";

/// Token or token file, and the variable that names it.
pub(super) struct TokenOrigin {
    pub(super) found: TokenLocation,
    /// Name of the variable; `None` for the default file.
    variable: Option<String>,
}

impl TokenOrigin {
    /// Uses the first of `variables` that is set, else [`FILE_VARIABLE`], else [`DEFAULT_FILE`] if it exists.
    pub(super) fn find(variables: &[String]) -> Result<Self, Failure> {
        let lookup = |name: &str| std::env::var_os(name);
        if let Some(name) = variables.iter().find(|name| lookup(name).is_some()) {
            return Ok(Self {
                found: find(variables, lookup)?,
                variable: Some(name.clone()),
            });
        }
        let file = lookup(FILE_VARIABLE).filter(|path| !path.is_empty());
        if let Some(path) = file {
            // A file:// URL is understood as well as a path.
            let path = match path.to_str() {
                Some(text) => match text.strip_prefix("file://") {
                    Some(path) => platform::path_of_url(path).to_owned(),
                    None => path.into(),
                },
                None => path.into(),
            };
            return Ok(Self {
                found: TokenLocation::File(path),
                variable: Some(FILE_VARIABLE.to_owned()),
            });
        }
        // A file that cannot be examined may exist: the read reports why it cannot be used.
        if cfg!(unix) && Path::new(DEFAULT_FILE).try_exists().unwrap_or(true) {
            return Ok(Self {
                found: TokenLocation::File(DEFAULT_FILE.into()),
                variable: None,
            });
        }
        let name = variables.first().map_or("KMS_TOKEN", String::as_str);
        Err(Failure::config(format!(
            "no token: none of {}, {FILE_VARIABLE} is set, and there is no {DEFAULT_FILE}. \
             Set {name}=file://PATH, where PATH is the token file that the agent was started with",
            variables.join(", ")
        )))
    }
}

impl fmt::Display for TokenOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.found, &self.variable) {
            (TokenLocation::Literal { .. }, Some(variable)) => write!(f, "in {variable}"),
            (TokenLocation::Literal { .. }, None) => f.write_str("of the environment"),
            (TokenLocation::File(path), Some(variable)) => {
                write!(f, "in the file {}, which {variable} names,", path.display())
            }
            (TokenLocation::File(path), None) => write!(
                f,
                "in the file {}, where no variable names another,",
                path.display()
            ),
        }
    }
}
