use std::io::{self, Write};

use http::StatusCode;
use serde_json::Value;

use super::target::{AgentTarget, encoded, parse_name};
use crate::client::Reply;
use crate::exit::Failure;

/// Removes entries from a running agent's cache and store.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "alibabacloud-kms-agent purge [OPTIONS] <SECRET_ID>\n       \
    alibabacloud-kms-agent purge [OPTIONS] --all [--force]",
    after_help = "A secret is dropped with all its versions, whether it was asked for by name or by ARN.\n\n\
    Example:\n  \
    KMS_TOKEN=file://$PWD/kmstoken alibabacloud-kms-agent purge app/db\n  \
    KMS_TOKEN=file://$PWD/kmstoken alibabacloud-kms-agent purge --all"
)]
pub(super) struct PurgeArgs {
    /// The secret's name or ARN
    #[arg(conflicts_with = "all", value_parser = parse_name)]
    secret_id: Option<String>,
    /// Remove every entry
    #[arg(long)]
    all: bool,
    /// Remove every entry even while KMS is failing and nothing can be fetched again
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    target: AgentTarget,
}

pub(super) fn run(args: &PurgeArgs) -> Result<(), Failure> {
    let query = match (&args.secret_id, args.all, args.force) {
        (Some(id), _, false) => format!("secretId={}", encoded(id)),
        (None, true, false) => "all=true".to_owned(),
        (None, true, true) => "all=true&force=true".to_owned(),
        (None, false, false) => {
            return Err(Failure::usage(
                "name a secret, or write --all to drop every entry",
            ));
        }
        (None, false, true) => {
            return Err(Failure::usage(
                "--force goes with --all: purge --all --force",
            ));
        }
        (Some(_), _, true) => {
            return Err(Failure::usage(
                "--force goes with --all; a single secret needs none",
            ));
        }
    };
    let reply = args
        .target
        .client()?
        .post(&format!("/agent/purge?{query}"))?;
    if reply.status != StatusCode::OK {
        return Err(refusal(args, &reply));
    }
    let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let count = answer.get("purged").and_then(Value::as_u64).unwrap_or(0);
    let entries = if count == 1 { "entry" } else { "entries" };
    // A failure means that stdout is closed, and there is no reader.
    let _ = writeln!(io::stdout(), "{count} {entries} purged");
    Ok(())
}

/// Returns the agent's error in the terms of the command line.
fn refusal(args: &PurgeArgs, reply: &Reply) -> Failure {
    match reply.error() {
        Some((code, message)) if args.all && code == "InvalidParameter" => {
            Failure::failed(message.replace("force=true", "--force"))
        }
        _ => args.target.refusal(reply),
    }
}
