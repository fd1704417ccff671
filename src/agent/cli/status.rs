mod table;

use std::io::{self, IsTerminal, Write};

use http::StatusCode;
use serde_json::Value;

use super::target::AgentTarget;
use crate::exit::Failure;
use crate::platform;
use crate::terminal::shown_json;

/// Lists the cached entries of a running agent, upstream health and credential expiry. Never a value.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "STATE fresh: LEFT is the time until the copy expires. STATE expired: LEFT is the time for which it may still\n\
    stand in while KMS fails; then it is dead.\n\n\
    Example:\n  \
    KMS_TOKEN=file://$PWD/kmstoken alibabacloud-kms-agent status"
)]
pub(super) struct StatusArgs {
    /// Print the agent's complete response
    #[arg(long)]
    json: bool,
    /// Do not shorten lines to fit the terminal
    #[arg(long, conflicts_with = "json")]
    wide: bool,
    #[command(flatten)]
    target: AgentTarget,
}

pub(super) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let reply = args.target.client()?.get("/agent/status")?;
    if reply.status != StatusCode::OK {
        return Err(args.target.refusal(&reply));
    }
    let no_answer = || Failure::failed("the process on this port did not answer as the agent does");
    let text = std::str::from_utf8(&reply.body).map_err(|_| no_answer())?;
    let status: Value = serde_json::from_str(text).map_err(|_| no_answer())?;
    let mut output = if args.json {
        shown_json(text).into_owned()
    } else {
        let columns = if args.wide || !io::stdout().is_terminal() {
            None
        } else {
            platform::terminal_columns()
        };
        table::render(&status, columns)
    };
    if !output.ends_with('\n') {
        output.push('\n');
    }
    // A failure means that stdout is closed, and there is no reader.
    let _ = io::stdout().write_all(output.as_bytes());
    Ok(())
}
