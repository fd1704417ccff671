//! Trust in config files, which other users must not be able to change.

use std::path::Path;

use kms_agent_core::config::Overrides;
use kms_agent_kms::{Environment, files};
use kms_agent_trust::{Kind, Verdict, is_new_warning};

use super::{Config, ConfigError};

impl Config {
    /// [`load`](Self::load) for the agent itself. A user who can change the config, or a file that the config or the
    /// environment names, decides which KMS is called and with which identity. Clients that only need the port do not
    /// check this.
    pub(crate) fn load_trusted(
        path: &Path,
        overrides: &Overrides,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let doubt = judge(path)?;
        let mut config = Self::load(path, overrides)?;
        config.judge_files(path, environment)?;
        config
            .warnings
            .extend(doubt.filter(|doubt| is_new_warning(doubt)));
        Ok(config)
    }

    /// [`load_again`](Self::load_again) with the same checks.
    pub(crate) fn load_trusted_again(
        path: &Path,
        overrides: &Overrides,
        environment: &Environment,
        has_keys: bool,
    ) -> Result<Self, ConfigError> {
        let doubt = judge(path)?;
        let mut config = Self::load_again(path, overrides, has_keys)?;
        config.judge_files(path, environment)?;
        config
            .warnings
            .extend(doubt.filter(|doubt| is_new_warning(doubt)));
        Ok(config)
    }

    fn judge_files(&self, path: &Path, environment: &Environment) -> Result<(), ConfigError> {
        let distrusted = files::distrusted(&self.kms, environment);
        if distrusted.is_empty() {
            return Ok(());
        }
        Err(ConfigError::of_file(path, distrusted.join("; ")))
    }
}

/// Judges the file itself. Returns a warning about a file that is accepted with reservations.
fn judge(path: &Path) -> Result<Option<String>, ConfigError> {
    match kms_agent_trust::judge(path, Kind::Setting) {
        Ok(Verdict::Refused(refusal)) => Err(ConfigError::of_file(
            path,
            format!("is not used: {refusal}"),
        )),
        Ok(Verdict::Warned(doubt)) => Ok(Some(doubt)),
        // The read reports the problem better.
        Ok(Verdict::Trusted) | Err(_) => Ok(None),
    }
}
