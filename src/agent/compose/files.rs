//! Files that are kept equal to secrets, between config, service and HTTP layer.

use std::sync::Arc;

use kms_agent_core::{SecretId, Timestamp};
use kms_agent_files::{FileSettings, FileSpec, Files};
use kms_agent_server::{FileCounts, FileReport, FileStatus};

use crate::platform;

/// Looks up the groups of `files`. An error names the file.
pub(crate) fn resolve(files: &[FileSettings]) -> Result<Vec<FileSpec>, String> {
    let files = files.iter().cloned();
    files.map(|file| file.resolve(find_group)).collect()
}

fn find_group(name: &str) -> Result<u32, String> {
    let group = name.parse().ok().or_else(|| platform::group(name));
    let group = group.ok_or_else(|| format!("there is no group {name}"))?;
    if !platform::is_own_group(group) {
        return Err(format!(
            "the agent is not a member of the group {name}; add its user to the group (usermod -aG), and restart it"
        ));
    }
    Ok(group)
}

/// The files as the HTTP layer sees them.
#[derive(Debug)]
pub(super) struct Report(pub(super) Arc<Files>);

impl FileReport for Report {
    fn counts(&self) -> FileCounts {
        let counts = self.0.counts();
        FileCounts {
            total: counts.total,
            written: counts.written,
            failed: counts.failed,
            first_pass_is_over: counts.first_pass_is_over,
        }
    }

    fn list(&self) -> Vec<FileStatus> {
        let files = self.0.list().into_iter();
        files
            .map(|file| FileStatus {
                path: file.path.display().to_string(),
                secret: file
                    .secrets
                    .iter()
                    .map(SecretId::as_str)
                    .collect::<Vec<_>>()
                    .join(", "),
                secrets: file.secrets,
                version: file.version,
                written_at: file.written_at.and_then(Timestamp::to_rfc3339),
                state: file.state,
                error: file.error,
            })
            .collect()
    }
}
