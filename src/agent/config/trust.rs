//! Whether a config file may be believed.

use std::io;
use std::path::Path;

use kms_agent_kms::{Environment, Settings};
use kms_agent_trust::{Kind, Verdict};

/// Judges the config file at `path`, which the agent is to go by: who may change it decides what KMS is. The error says
/// what mends it; what is accepted with a doubt is returned.
pub(crate) fn judge(path: &Path) -> Result<Option<String>, String> {
    match kms_agent_trust::judge(path, Kind::Setting) {
        Ok(Verdict::Trusted) => Ok(None),
        Ok(Verdict::Warned(doubt)) => Ok(Some(doubt)),
        Ok(Verdict::Refused(refusal)) => Err(format!("is not used: {refusal}")),
        // Reading it says it better.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// The same for the files that the config and the environment name.
pub(crate) fn judge_files(kms: &Settings, environment: &Environment) -> Result<(), String> {
    let distrusted = kms.distrusted(environment);
    if distrusted.is_empty() {
        Ok(())
    } else {
        Err(distrusted.join("\n"))
    }
}
