//! Exit codes and messages of the process.

pub(crate) mod panic_hook;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::terminal::{shown, shown_lines};
use kms_agent_core::member::MemberError;
use kms_agent_core::registry::{OpenError, OpenErrorKind};
use kms_agent_core::shortage;
use kms_agent_server::ReadError;

/// The command failed.
pub(crate) const FAILED: u8 = 1;
/// The command line was wrong; clap uses the same code.
const USAGE: u8 = 2;
/// The configuration is wrong (`EX_CONFIG` of `sysexits.h`); a restart does not help.
const CONFIG: u8 = 78;

/// The command of `exec` was found and cannot be executed; shells use the same code.
const NOT_EXECUTABLE: u8 = 126;
/// The command of `exec` was not found; shells use the same code.
const NO_COMMAND: u8 = 127;

/// Failure of a command. Its message is for people and contains no secret.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    /// The message is printed without the prefix `error:`, as pages on wrong usage are.
    is_page: bool,
}

impl Failure {
    /// Exit code 1.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::with_code(FAILED, message.into())
    }

    /// Exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::with_code(USAGE, message.into())
    }

    /// Exit code 78.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::with_code(CONFIG, message.into())
    }

    /// Exit code 2, with a text that is printed as it is.
    pub(crate) fn page(text: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            message: text.into(),
            is_page: true,
        }
    }

    /// Exit code of a command that has reported its failure itself.
    #[cfg(unix)]
    pub(crate) fn reported(code: u8) -> Self {
        Self::with_code(code, String::new())
    }

    /// Failure to execute `program`, with the exit codes of shells and of `env`.
    pub(crate) fn not_run(program: &OsStr, error: &io::Error) -> Self {
        let name = program.display();
        let failed = |why: &str| format!("{name} cannot be run: {why}");
        match error.kind() {
            // A file that exists and is not found is a script whose interpreter is missing.
            io::ErrorKind::NotFound if Path::new(program).is_file() => Self::with_code(
                NOT_EXECUTABLE,
                failed("the interpreter in its first line is missing"),
            ),
            io::ErrorKind::NotFound => {
                Self::with_code(NO_COMMAND, failed("there is no such command"))
            }
            io::ErrorKind::ArgumentListTooLong => Self::failed(failed(
                "the values are too large for an environment; read them from the agent instead",
            )),
            _ => Self::with_code(NOT_EXECUTABLE, failed(&error.to_string())),
        }
    }

    /// Exit code 78, with several lines.
    pub(crate) fn config_lines(lines: &str) -> Self {
        Self {
            code: CONFIG,
            message: shown_lines(lines),
            is_page: false,
        }
    }

    /// Escapes line breaks, so that foreign text cannot begin another line.
    fn with_code(code: u8, message: String) -> Self {
        Self {
            code,
            message: shown(&message).into_owned(),
            is_page: false,
        }
    }

    /// Exit code 1 with the remedy if `error` may pass, otherwise 78 with `advice`.
    pub(crate) fn of_io(what: impl std::fmt::Display, error: &io::Error, advice: &str) -> Self {
        if shortage::may_pass(error) {
            Self::failed(format!("{what}: {error}. {}", shortage::remedy(error)))
        } else {
            Self::config(format!("{what}: {error}. {advice}"))
        }
    }

    /// Adds the subject to the message.
    pub(crate) fn about(self, what: impl std::fmt::Display) -> Self {
        Self {
            message: format!("{}: {}", shown(&what.to_string()), self.message),
            ..self
        }
    }

    /// Returns the message, for commands that print it in their own form.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Whether a restart would not help.
    pub(crate) fn is_config(&self) -> bool {
        self.code == CONFIG
    }

    /// Prints the message on stderr and returns the code.
    pub(crate) fn report(self) -> ExitCode {
        // A failure means that stderr is closed, and there is no reader.
        let prefix = if self.is_page { "" } else { "error: " };
        if !self.message.is_empty() {
            let _ = writeln!(std::io::stderr(), "{prefix}{}", self.message.trim_end());
        }
        ExitCode::from(self.code)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error.kind {
            OpenErrorKind::Configuration => Self::config(error.message),
            OpenErrorKind::Shortage => Self::failed(error.message),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<MemberError> for Failure {
    fn from(error: MemberError) -> Self {
        Self::failed(error.to_string())
    }
}
