use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::Command;

use clap::ValueHint;
use http::StatusCode;
use kms_agent_core::member::member;
use kms_agent_server::read_value;
use zeroize::Zeroizing;

use super::target::{AgentTarget, encoded};
use crate::client::Client;
use crate::exit::Failure;
use crate::platform;
use crate::process::dumps;

/// Reads secrets through a running agent, sets them as environment variables and executes a command in its place.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The command gets this environment and the variables asked for, in place of ones of the same name.\n\
    It is not started unless every secret could be read. Values are never on a command line.\n\
    The variables that may hold the agent's token (see Server.SSRFEnvVariables) are taken out of its environment,\n\
    unless --keep-token is given. A member is given as it is written in the value (see get).\n\n\
    Exit codes: those of the command; 127 if there is no such command, 126 if it cannot be run. Before that: 1 a\n\
    secret could not be read, 2 wrong usage, 78 bad configuration.\n\n\
    Example:\n  \
    KMS_TOKEN=file://$PWD/kmstoken alibabacloud-kms-agent exec \\\n    \
    -e DB_USER=app/db#user -e DB_PASSWORD=app/db#password -- ./server --port 8080"
)]
pub(super) struct ExecArgs {
    /// A variable and the secret it gets, or the field of its JSON value (dots go deeper); may be given many times
    #[arg(short, long, required = true, value_name = "VAR=SECRET_ID[#field]", value_parser = Variable::parse)]
    env: Vec<Variable>,
    /// Leave the variables that may hold the agent's token in the command's environment
    #[arg(long)]
    keep_token: bool,
    #[command(flatten)]
    target: AgentTarget,
    /// The command to execute, and its arguments
    #[arg(last = true, required = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

/// Variable and the source of its value.
#[derive(Clone, Debug)]
struct Variable {
    name: String,
    secret_id: String,
    field: Option<String>,
}

impl Variable {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, source) = text
            .split_once('=')
            .ok_or("write VAR=SECRET_ID or VAR=SECRET_ID#field")?;
        // No secret has # in its name.
        let (secret_id, field) = match source.split_once('#') {
            Some((secret_id, field)) => (secret_id, Some(field)),
            None => (source, None),
        };
        if name.is_empty() || secret_id.is_empty() || field == Some("") {
            return Err(
                "neither the variable nor the secret nor the field may be empty".to_owned(),
            );
        }
        Ok(Self {
            name: name.to_owned(),
            secret_id: secret_id.to_owned(),
            field: field.map(str::to_owned),
        })
    }
}

pub(super) fn run(args: &ExecArgs) -> Result<(), Failure> {
    let [program, arguments @ ..] = args.command.as_slice() else {
        return Err(Failure::usage("there is no command to become"));
    };
    let dumps = dumps::forbid();
    let values = read(&args.env, &args.target)?;
    let mut command = Command::new(program);
    if !args.keep_token {
        for name in args.target.token_variables()? {
            command.env_remove(name);
        }
    }
    command.args(arguments).envs(
        values
            .iter()
            .filter_map(|(name, value)| Some((name, platform::env_value(value)?))),
    );
    dumps.restore_limit();
    let error = platform::replace_process(&mut command);
    Err(not_run(program, &error))
}

/// Returns the failure to execute `program`, with the exit codes of shells and of `env`.
fn not_run(program: &OsStr, error: &io::Error) -> Failure {
    let name = program.display();
    let failed = |why: &str| format!("{name} cannot be run: {why}");
    match error.kind() {
        // A file that exists and is not found is a script whose interpreter is missing.
        io::ErrorKind::NotFound if Path::new(program).is_file() => {
            Failure::not_executable(failed("the interpreter in its first line is missing"))
        }
        io::ErrorKind::NotFound => Failure::no_command(failed("there is no such command")),
        io::ErrorKind::ArgumentListTooLong => Failure::failed(failed(
            "the values are too large for an environment; read them from the agent instead",
        )),
        _ => Failure::not_executable(failed(&error.to_string())),
    }
}

/// Returns the values of the variables. A secret that several variables use is read once, so that their values belong
/// together.
fn read<'a>(
    variables: &'a [Variable],
    target: &AgentTarget,
) -> Result<BTreeMap<&'a str, Zeroizing<Vec<u8>>>, Failure> {
    let mut secrets = BTreeMap::new();
    let mut values = BTreeMap::new();
    let client = target.client()?;
    for variable in variables {
        let Variable {
            name,
            secret_id,
            field,
        } = variable;
        let failed = |failure: Failure| failure.about(format_args!("{name} from {secret_id}"));
        if !secrets.contains_key(secret_id) {
            secrets.insert(secret_id, ask(&client, target, secret_id).map_err(failed)?);
        }
        let Some(whole) = secrets.get(secret_id) else {
            continue;
        };
        let value = match field {
            Some(field) => member(whole, field).map_err(|error| failed(error.into()))?,
            None => whole.clone(),
        };
        if platform::env_value(&value).is_none() {
            return Err(failed(Failure::failed(
                "the value has a zero byte or another one in it that no environment variable can hold",
            )));
        }
        if values.insert(name.as_str(), value).is_some() {
            return Err(Failure::usage(format!("{name} is asked for twice")));
        }
    }
    Ok(values)
}

fn ask(
    client: &Client,
    target: &AgentTarget,
    secret_id: &str,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let reply = client.get_as_kms(&format!(
        "/secretsmanager/get?secretId={}",
        encoded(secret_id)
    ))?;
    if reply.status == StatusCode::OK {
        Ok(read_value(&reply.body)?)
    } else {
        Err(target.refusal(&reply))
    }
}
