use std::io::{self, IsTerminal, Write};

use http::StatusCode;

use super::target::{Target, encoded};
use super::value;
use crate::exit::Failure;

/// Reads a secret through a running agent and prints its value.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The value is printed as it is; a line break follows only on a terminal.\n\n\
    Example:\n  \
    KMS_TOKEN=file://$PWD/kmstoken alibabacloud-kms-agent get app/db --field password"
)]
pub(super) struct Args {
    /// The secret's name or ARN
    secret_id: String,
    /// Print the agent's whole answer
    #[arg(long, conflicts_with = "field")]
    json: bool,
    /// Print one member of a JSON value; dots go deeper
    #[arg(long, value_name = "a.b")]
    field: Option<String>,
    /// The version with this id
    #[arg(long)]
    version_id: Option<String>,
    /// The version with this stage, such as `ACSPrevious`
    #[arg(long)]
    version_stage: Option<String>,
    /// Have the agent ask KMS now, whatever it holds
    #[arg(long)]
    refresh: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let client = args.target.client()?;
    let reply = if args.json {
        client.get(&args.query())
    } else {
        client.get_as_kms(&args.query())
    }?;
    if reply.status != StatusCode::OK {
        return Err(reply.refusal());
    }
    let output = if args.json {
        reply.body
    } else {
        let value = value::of(&reply.body)?;
        match &args.field {
            Some(field) => value::member(&value, field)?,
            None => value,
        }
    };
    let mut stdout = io::stdout();
    stdout
        .write_all(&output)
        .and_then(|()| {
            if stdout.is_terminal() {
                stdout.write_all(b"\n")
            } else {
                Ok(())
            }
        })
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::failed(format!("the value cannot be written: {error}")))
}

impl Args {
    fn query(&self) -> String {
        let mut query = format!("/secretsmanager/get?secretId={}", encoded(&self.secret_id));
        for (name, value) in [
            ("versionId", &self.version_id),
            ("versionStage", &self.version_stage),
        ] {
            if let Some(value) = value {
                query.extend(["&", name, "=", &encoded(value)]);
            }
        }
        if self.refresh {
            query.push_str("&refreshNow=true");
        }
        query
    }
}
