//! How the process ends, and what it says then.

use std::io::{self, Write};
use std::process::ExitCode;

use kms_agent_core::registry::{OpenError, OpenErrorKind};
use kms_agent_core::shortage;

/// Something that failed; the command did not do what it was asked to.
pub(crate) const FAILED: u8 = 1;
/// The command line was wrong; clap uses the same code.
const USAGE: u8 = 2;
/// The configuration is wrong (`EX_CONFIG` of `sysexits.h`): starting again will not help.
const CONFIG: u8 = 78;

/// An end that is not success. Its message is for a person and holds no secret.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Exit code 1.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            code: FAILED,
            message: message.into(),
        }
    }

    /// Exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            message: message.into(),
        }
    }

    /// Exit code 78.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self {
            code: CONFIG,
            message: message.into(),
        }
    }

    /// Exit code 1 where `error` may pass, with the remedy for that; else 78 with `advice`.
    pub(crate) fn of_io(what: impl std::fmt::Display, error: &io::Error, advice: &str) -> Self {
        if shortage::may_pass(error) {
            Self::failed(format!("{what}: {error}. {}", shortage::remedy(error)))
        } else {
            Self::config(format!("{what}: {error}. {advice}"))
        }
    }

    /// The same, with what it is about.
    pub(crate) fn about(self, what: impl std::fmt::Display) -> Self {
        Self {
            message: format!("{what}: {}", self.message),
            ..self
        }
    }

    /// What is wrong, for commands that say it in their own form.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Whether starting again would not help.
    pub(crate) fn is_config(&self) -> bool {
        self.code == CONFIG
    }

    /// Says it on stderr and gives the code.
    pub(crate) fn report(self) -> ExitCode {
        // Nobody is left to tell where stderr is closed.
        let _ = writeln!(std::io::stderr(), "error: {}", self.message);
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
