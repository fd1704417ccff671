use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::ValueHint;
use kms_agent_sealed::key::{KeySource, RootKey};

use crate::exit::Failure;

/// Writes a new cache key to a file that does not exist yet, and prints the path.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The key is 32 random bytes that only this user can read. Cache.Persistent.KeyFile and\n\
    Cache.Redis.KeyFile name it. For a shared cache, write it once and distribute it to every agent.\n\n\
    Example:\n  \
    alibabacloud-kms-agent key ./keys/fleet.key"
)]
pub(super) struct KeyArgs {
    /// Path of the file
    #[arg(value_hint = ValueHint::FilePath)]
    path: PathBuf,
}

pub(super) fn run(args: &KeyArgs) -> Result<(), Failure> {
    let path = &args.path;
    let source = path
        .to_str()
        .map(KeySource::parse)
        .filter(|source| matches!(source, Ok(KeySource::File(_))))
        .and_then(Result::ok)
        .ok_or_else(|| {
            Failure::usage(format!(
                "{} is not the path of a file; name one, such as ./keys/fleet.key",
                path.display()
            ))
        })?;
    let key = RootKey::random().map_err(|error| cannot_be_written(path, &error))?;
    source
        .make(&key)
        .map_err(|error| cannot_be_written(path, &error))?;
    // A closed stdout is not a failure of the command.
    let _ = writeln!(io::stdout(), "{}", path.display());
    Ok(())
}

fn cannot_be_written(path: &Path, error: &io::Error) -> Failure {
    let shown = path.display();
    Failure::failed(match error.kind() {
        io::ErrorKind::AlreadyExists => format!(
            "{shown} exists, and a key is never written over a file; remove it first if nothing is sealed with it"
        ),
        _ => format!("the key cannot be written to {shown}: {error}"),
    })
}
