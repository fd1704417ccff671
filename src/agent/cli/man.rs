mod config;
mod page;

use std::io;
use std::path::{Path, PathBuf};

use clap::ValueHint;

use crate::exit::Failure;

/// Writes the manual pages, one a command and one on the config file, into a folder.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Pages that end in .1 belong into man1, the page on the config file, which ends in .5, into man5.\n\n\
    Example:\n  \
    alibabacloud-kms-agent man ./man\n  \
    sudo install -Dm 644 -t /usr/local/share/man/man1 ./man/*.1\n  \
    sudo install -Dm 644 -t /usr/local/share/man/man5 ./man/*.5"
)]
pub(super) struct ManArgs {
    /// The folder, which is created if it is missing
    #[arg(value_hint = ValueHint::DirPath)]
    folder: PathBuf,
}

pub(super) fn run(args: &ManArgs, command: clap::Command) -> Result<(), Failure> {
    write_all(&args.folder, command).map_err(|error| {
        let folder = args.folder.display();
        Failure::failed(format!("the pages cannot be written to {folder}: {error}"))
    })
}

fn write_all(folder: &Path, command: clap::Command) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let name = command.get_name().to_owned();
    for subcommand in command.get_subcommands() {
        let page = page::of_command(&name, subcommand)?;
        std::fs::write(
            folder.join(format!("{name}-{}.1", subcommand.get_name())),
            page,
        )?;
    }
    std::fs::write(
        folder.join(format!("{name}.1")),
        page::of_program(&name, &command)?,
    )?;
    std::fs::write(folder.join(format!("{name}.toml.5")), config::page(&name)?)
}
