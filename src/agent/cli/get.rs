use std::io::{self, IsTerminal, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::Value;
use zeroize::Zeroizing;

use super::target::{Target, encoded};
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
    let reply = args.target.client()?.get(&args.query())?;
    if reply.status != StatusCode::OK {
        return Err(reply.refusal());
    }
    let output = if args.json {
        reply.body
    } else {
        let value = value(&reply.body)?;
        match &args.field {
            Some(field) => member(&value, field)?,
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

/// The secret's value out of an answer, in whichever form the agent's ResponseType tells it.
fn value(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let no_answer = || Failure::failed("what answered on this port is not the agent");
    let body: Value = serde_json::from_slice(body).map_err(|_| no_answer())?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    if let Some(value) = text("SecretData").or(text("SecretString")) {
        return Ok(Zeroizing::new(value.as_bytes().to_vec()));
    }
    if let Some(value) = text("SecretBinary") {
        return STANDARD
            .decode(value)
            .map(Zeroizing::new)
            .map_err(|_| no_answer());
    }
    match body.pointer("/data/data") {
        // How a value that is no object is told.
        Some(Value::Object(members)) if members.len() == 1 && members.contains_key("value") => {
            Ok(plain(members.get("value").unwrap_or(&Value::Null)))
        }
        Some(members) => Ok(plain(members)),
        None => Err(no_answer()),
    }
}

/// One member of a JSON value.
fn member(value: &[u8], field: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let value: Value = serde_json::from_slice(value).map_err(|_| {
        Failure::failed("--field needs a secret whose value is JSON, and this one is not")
    })?;
    let mut found = &value;
    for name in field.split('.') {
        let next = match found {
            Value::Array(items) => name.parse().ok().and_then(|index: usize| items.get(index)),
            other => other.get(name),
        };
        found = next.ok_or_else(|| Failure::failed(format!("the value has no member {field}")))?;
    }
    Ok(plain(found))
}

/// Text as it is, anything else as JSON.
fn plain(value: &Value) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(match value {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    })
}
