//! States of files, for probes and operators.

use std::path::PathBuf;

use kms_agent_core::{SecretId, Timestamp};

use super::Versions;
use crate::settings::{Content, FileSpec};
use crate::target::WriteOutcome;

/// The files in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCounts {
    /// All of them.
    pub total: usize,
    /// Equal to their secrets.
    pub written: usize,
    /// Not up to date.
    pub failed: usize,
    /// Each was tried once.
    pub first_pass_is_over: bool,
}

/// State of one file, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Path of the file.
    pub path: PathBuf,
    /// Secrets that it is made of.
    pub secrets: Vec<SecretId>,
    /// Their versions, in the same order.
    pub version: Option<String>,
    /// Time of the last write by this process, by the wall clock.
    pub written_at: Option<Timestamp>,
    /// `pending`, `written`, `failed` or `removed`.
    pub state: &'static str,
    /// Code or reason of the failure.
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not tried yet.
    #[default]
    Pending,
    Written,
    /// Not up to date. An earlier file stays.
    Failed,
    /// Removed because KMS refused the secret.
    Removed,
}

#[derive(Debug, Default)]
pub(super) struct FileState {
    pub(super) phase: Phase,
    pub(super) secrets: Vec<SecretId>,
    pub(super) versions: String,
    written_at: Option<Timestamp>,
    /// Code and cause of the failure.
    failure: Option<(String, String)>,
}

impl FileState {
    pub(super) fn succeed(&mut self, outcome: WriteOutcome, versions: &Versions, now: Timestamp) {
        let texts: Vec<&str> = versions.values().map(|version| &**version).collect();
        self.phase = Phase::Written;
        self.versions = texts.join(", ");
        self.secrets = versions.keys().map(|secret| secret.id.clone()).collect();
        self.failure = None;
        if outcome == WriteOutcome::Replaced {
            self.written_at = Some(now);
        }
    }

    /// Returns whether this failure is another one than the last.
    pub(super) fn fail(&mut self, code: String, cause: &str, is_removed: bool) -> bool {
        let failure = Some((code, cause.to_owned()));
        let phase = if is_removed {
            Phase::Removed
        } else {
            Phase::Failed
        };
        let is_news = self.failure != failure || self.phase != phase;
        self.phase = phase;
        self.failure = failure;
        if is_removed {
            self.versions.clear();
        }
        is_news
    }

    pub(super) fn status(&self, file: &FileSpec) -> FileStatus {
        let secrets = match &file.content {
            Content::Secret { secret, .. } => vec![secret.id.clone()],
            Content::Template(_) => self.secrets.clone(),
        };
        FileStatus {
            path: file.target.path.clone(),
            secrets,
            version: (!self.versions.is_empty()).then(|| self.versions.clone()),
            written_at: self.written_at,
            state: match self.phase {
                Phase::Pending => "pending",
                Phase::Written => "written",
                Phase::Failed => "failed",
                Phase::Removed => "removed",
            },
            error: self.failure.as_ref().map(|(code, _)| code.clone()),
        }
    }
}
