use std::io::{self, IsTerminal, Write};

use http::StatusCode;
use kms_agent_core::member::member;
use kms_agent_server::read_value;

use super::target::{AgentTarget, encoded, parse_name};
use crate::exit::Failure;
use crate::process::dumps;
use crate::terminal::shown_json;

/// Reads a secret through a running agent and prints its value.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The value is printed byte for byte; a line break follows only on a terminal.\n\n\
    A member is printed as it is written in the value, numbers digit for digit, a string without quotes and\n\
    escapes. A dot goes deeper, into an array by number. A member whose own name has the dots comes first. Of\n\
    several members of one name the last counts.\n\n\
    The token: KMS_TOKEN (see Server.SSRFEnvVariables), else the file that KMS_TOKEN_FILE names, else\n\
    /var/run/kmstoken.\n\n\
    Example:\n  \
    KMS_TOKEN=file://$PWD/kmstoken alibabacloud-kms-agent get app/db --field password"
)]
pub(super) struct GetArgs {
    /// The secret's name or ARN
    #[arg(value_parser = parse_name)]
    secret_id: String,
    /// Print the agent's complete response
    #[arg(long, conflicts_with = "field")]
    json: bool,
    /// Print one member of a JSON value; dots go deeper
    #[arg(long, value_name = "a.b", value_parser = parse_name)]
    field: Option<String>,
    /// The version with this id
    #[arg(long)]
    version_id: Option<String>,
    /// The version with this stage, such as `ACSPrevious`
    #[arg(long)]
    version_stage: Option<String>,
    /// Have the agent read from KMS now, whatever is cached
    #[arg(long)]
    refresh: bool,
    #[command(flatten)]
    target: AgentTarget,
}

pub(super) fn run(args: &GetArgs) -> Result<(), Failure> {
    let _dumps = dumps::forbid();
    let client = args.target.client()?;
    let reply = if args.json {
        client.get(&args.query())
    } else {
        client.get_as_kms(&args.query())
    }?;
    if reply.status != StatusCode::OK {
        return Err(args.target.refusal(&reply));
    }
    let mut stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    let output = match &args.field {
        _ if args.json => match std::str::from_utf8(&reply.body) {
            Ok(text) if is_terminal => shown_json(text).into_owned().into_bytes().into(),
            _ => reply.body,
        },
        Some(field) => member(&read_value(&reply.body)?, field)?,
        None => read_value(&reply.body)?,
    };
    stdout
        .write_all(&output)
        .and_then(|()| {
            if is_terminal {
                stdout.write_all(b"\n")
            } else {
                Ok(())
            }
        })
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::failed(format!("the value cannot be written: {error}")))
}

impl GetArgs {
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
