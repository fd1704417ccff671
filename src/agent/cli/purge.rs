use std::io::{self, Write};

use http::StatusCode;
use serde_json::Value;

use super::target::{Target, encoded};
use crate::exit::Failure;

/// Drops entries from a running agent's cache, durably.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A secret is dropped with all its versions, whether it was asked for by name or by ARN.\n\n\
    Example:\n  \
    KMS_TOKEN=file://$PWD/kmstoken alibabacloud-kms-agent purge app/db\n  \
    KMS_TOKEN=file://$PWD/kmstoken alibabacloud-kms-agent purge --all"
)]
pub(super) struct Args {
    /// The secret's name or ARN
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    secret_id: Option<String>,
    /// Drop everything
    #[arg(long)]
    all: bool,
    /// Drop everything even while KMS is failing and nothing can be fetched again
    #[arg(long, requires = "all")]
    force: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let query = match &args.secret_id {
        Some(id) => format!("secretId={}", encoded(id)),
        None if args.force => "all=true&force=true".to_owned(),
        None => "all=true".to_owned(),
    };
    let reply = args
        .target
        .client()?
        .post(&format!("/agent/purge?{query}"))?;
    if reply.status != StatusCode::OK {
        return Err(reply.refusal());
    }
    let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let count = answer.get("purged").and_then(Value::as_u64).unwrap_or(0);
    let entries = if count == 1 { "entry" } else { "entries" };
    // Who has closed stdout does not want to know.
    let _ = writeln!(io::stdout(), "{count} {entries} purged");
    Ok(())
}
