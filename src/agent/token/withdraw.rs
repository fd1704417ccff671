//! Withdrawal of a token that a process of another user may have collected.

use std::env;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use super::source::TokenSource;
use crate::platform;

/// File in the unit's state folder that asks for another token before the next startup. The unit's `ExecStartPre=`
/// creates the token, because the agent cannot write there.
const MARK: &str = "token-exposed";

impl TokenSource {
    /// Makes sure, as far as this process can, that the next startup has another token. Returns a sentence, without a
    /// full stop, on what was done and what is left to do.
    pub(crate) fn withdraw(&self) -> String {
        let Some(path) = self.path() else {
            return "Replace the token in the environment of the agent and of the applications"
                .to_owned();
        };
        let shown = path.display();
        if fs::remove_file(path).is_ok() {
            format!("The token in {shown} was withdrawn; the next start makes another one")
        } else if mark().is_ok() {
            format!("The token in {shown} is replaced before the next start")
        } else {
            format!(
                "Replace the token, once the port is free: alibabacloud-kms-agent token {shown}"
            )
        }
    }
}

/// Creates the mark in the folder of systemd's `StateDirectory=`.
fn mark() -> io::Result<()> {
    let folders = env::var_os("STATE_DIRECTORY").unwrap_or_default();
    let folder = env::split_paths(&folders)
        .find(|folder| folder.is_absolute())
        .ok_or(io::ErrorKind::NotFound)?;
    let mark = Path::new(&folder).join(MARK);
    let mut options = OpenOptions::new();
    platform::made_with(options.write(true).create_new(true), 0o600);
    match options.open(mark) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.map(|_| ()),
    }
}
