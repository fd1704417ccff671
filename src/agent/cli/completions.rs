use std::io::{self, Write};

use clap_complete::Shell;

use crate::exit::Failure;

/// Prints what a shell needs to complete this command line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    alibabacloud-kms-agent completions bash > /usr/share/bash-completion/completions/alibabacloud-kms-agent")]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args, mut command: clap::Command) -> Result<(), Failure> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, &name, &mut script);
    // For bash the library spells a name with hyphens in two ways, and then completes no option of any command
    // (clap-rs/clap#6421).
    let script = String::from_utf8_lossy(&script)
        .replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"));
    io::stdout()
        .write_all(script.as_bytes())
        .map_err(|error| Failure::failed(format!("the script cannot be written: {error}")))
}
