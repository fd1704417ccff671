mod table;

use std::io::{self, Write};

use http::StatusCode;
use serde_json::Value;

use super::target::Target;
use crate::exit::Failure;

/// Shows what a running agent holds: entries, upstream health, credential expiry. Never a value.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    KMS_TOKEN=file://$PWD/kmstoken alibabacloud-kms-agent status")]
pub(super) struct Args {
    /// Print the agent's whole answer
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let reply = args.target.client()?.get("/agent/status")?;
    if reply.status != StatusCode::OK {
        return Err(reply.refusal());
    }
    let mut output = if args.json {
        reply.body.to_vec()
    } else {
        let status: Value = serde_json::from_slice(&reply.body)
            .map_err(|_| Failure::failed("what answered on this port is not the agent"))?;
        table::render(&status).into_bytes()
    };
    if !output.ends_with(b"\n") {
        output.push(b'\n');
    }
    // Who has closed stdout does not want to know.
    let _ = io::stdout().write_all(&output);
    Ok(())
}
