mod bash;

use std::io::{self, Write};

use clap_complete::Shell;

use crate::exit::Failure;

/// Prints a script with which a shell completes this command line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    alibabacloud-kms-agent completions bash > /usr/share/bash-completion/completions/alibabacloud-kms-agent")]
pub(super) struct CompletionsArgs {
    /// The shell to write the script for
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, mut command: clap::Command) -> Result<(), Failure> {
    let script = match args.shell {
        // The library's script offers no files for arguments, nothing after `--`, and misspells names with hyphens.
        Shell::Bash => bash::script(&command),
        shell => {
            let name = command.get_name().to_owned();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, &name, &mut script);
            let script = String::from_utf8_lossy(&script).into_owned();
            with_groups(shell, &script)
        }
    };
    io::stdout()
        .write_all(script.as_bytes())
        .map_err(|error| Failure::failed(format!("the script cannot be written: {error}")))
}

/// Adds the system's groups for `--group`, for which the library has no hint.
fn with_groups(shell: Shell, script: &str) -> String {
    match shell {
        Shell::Zsh => script.replace(":GROUP:_default'", ":GROUP:_groups'"),
        Shell::Fish => script
            .lines()
            .map(|line| {
                if line.contains(" -l group ") {
                    format!("{line} -f -a '(__fish_complete_groups)'\n")
                } else {
                    format!("{line}\n")
                }
            })
            .collect(),
        _ => script.to_owned(),
    }
}
