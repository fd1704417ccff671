//! The command line: one file a command.

mod agent;
mod check;
mod completions;
mod dev;
mod exec;
#[cfg(unix)]
mod follow;
mod get;
mod health;
#[cfg(unix)]
mod key;
mod man;
mod purge;
mod status;
mod target;
mod token;
mod usage;
#[cfg(unix)]
mod watch;

use clap::{CommandFactory, Parser, Subcommand};

use crate::exit::Failure;
use crate::process::signal;

/// Hands applications their Alibaba Cloud KMS secrets over loopback HTTP, from a cache that outlives outages.
#[derive(Debug, Parser)]
#[command(
    name = "alibabacloud-kms-agent",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done; 1 failed; 2 wrong usage; 78 bad configuration. exec: see exec --help.\n\n\
        Try it without a cloud account:\n  alibabacloud-kms-agent dev"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Agent(agent::AgentArgs),
    Check(check::CheckArgs),
    Token(token::TokenArgs),
    #[cfg(unix)]
    Key(key::KeyArgs),
    Dev(dev::DevArgs),
    Get(get::GetArgs),
    Exec(exec::ExecArgs),
    #[cfg(unix)]
    Watch(watch::WatchArgs),
    Status(status::StatusArgs),
    Purge(purge::PurgeArgs),
    Health(health::HealthArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// Runs the command that the process was started with.
pub(crate) fn run() -> Result<(), Failure> {
    #[cfg(unix)]
    if let Some(launch) = crate::supervise::launch::Launch::of_this_process() {
        return Err(launch.run());
    }
    let Some(cli) = usage::parse()? else {
        return Ok(());
    };
    let command = cli.command;
    if !matches!(command, Command::Exec(_)) {
        signal::outlive_file_limit();
    }
    match command {
        Command::Agent(args) => agent::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Token(args) => token::run(&args),
        #[cfg(unix)]
        Command::Key(args) => key::run(&args),
        Command::Dev(args) => dev::run(args),
        Command::Get(args) => get::run(&args),
        Command::Exec(args) => exec::run(&args),
        #[cfg(unix)]
        Command::Watch(args) => watch::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Purge(args) => purge::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Man(args) => man::run(&args, Cli::command()),
    }
}
