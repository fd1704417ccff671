use std::path::PathBuf;

use crate::exit::Failure;

/// Writes the manual pages, one a command, into a folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    alibabacloud-kms-agent man /usr/share/man/man1")]
pub(super) struct Args {
    /// The folder, which is made if need be
    folder: PathBuf,
}

pub(super) fn run(args: &Args, command: clap::Command) -> Result<(), Failure> {
    std::fs::create_dir_all(&args.folder)
        .and_then(|()| clap_mangen::generate_to(command, &args.folder))
        .map_err(|error| {
            let folder = args.folder.display();
            Failure::failed(format!("the pages cannot be written to {folder}: {error}"))
        })
}
