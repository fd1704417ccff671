#[cfg(unix)]
mod watching;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::Command;

use clap::ValueHint;
use kms_agent_core::member::member;
use zeroize::Zeroizing;

use super::target::{AgentTarget, Secret};
use crate::client::block_on;
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
    With --watch this process stays the command's parent, follows the secrets and restarts or signals the command\n\
    when the value of a variable has changed. It passes signals on, reaps orphans, and ends as the command does,\n\
    with 128+n for signal n.\n\n\
    Exit codes: those of the command; 127 if there is no such command, 126 if it cannot be run. Before that: 1 a\n\
    secret could not be read, 2 wrong usage, 78 bad configuration.\n\n\
    Example:\n  \
    KMS_TOKEN=file://$PWD/kmstoken alibabacloud-kms-agent exec \\\n    \
    -e DB_USER=app/db#user -e DB_PASSWORD=app/db#password -- ./server --port 8080\n  \
    alibabacloud-kms-agent exec --watch --on-change HUP -e DB_PASSWORD=app/db#password -- ./server"
)]
pub(super) struct ExecArgs {
    /// A variable and the secret it gets, or the field of its JSON value (dots go deeper); may be given many times
    #[arg(short, long, required = true, value_name = "VAR=SECRET_ID[#field]", value_parser = Variable::parse)]
    env: Vec<Variable>,
    /// Leave the variables that may hold the agent's token in the command's environment
    #[arg(long)]
    keep_token: bool,
    #[cfg(unix)]
    #[command(flatten)]
    watching: watching::WatchOptions,
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

    /// Names variable and secret in a failure.
    fn failed(&self, failure: Failure) -> Failure {
        failure.about(format_args!("{} from {}", self.name, self.secret_id))
    }
}

/// Values of environment variables.
type Values<'a> = BTreeMap<&'a str, Zeroizing<Vec<u8>>>;

pub(super) fn run(args: &ExecArgs) -> Result<(), Failure> {
    let [program, arguments @ ..] = args.command.as_slice() else {
        return Err(Failure::usage("there is no command to become"));
    };
    let dumps = dumps::forbid();
    #[cfg(unix)]
    if args.watching.is_on() {
        return block_on(watching::run(args, dumps));
    }
    let secrets = block_on(args.read(|_| true))?;
    let values = args.values(&secrets)?;
    let mut command = Command::new(program);
    command.args(arguments);
    set_environment(&mut command, &args.removed_variables()?, &values);
    dumps.restore_limit();
    let error = platform::replace_process(&mut command);
    Err(Failure::not_run(program, &error))
}

/// Removes variables from the environment of `command`, and then sets those of `values`.
fn set_environment(command: &mut Command, removed: &[String], values: &Values<'_>) {
    for name in removed {
        command.env_remove(name);
    }
    command.envs(
        values
            .iter()
            .filter_map(|(name, value)| Some((name, platform::env_value(value)?))),
    );
}

impl ExecArgs {
    /// Returns the names of the variables that the command does not get.
    fn removed_variables(&self) -> Result<Vec<String>, Failure> {
        if self.keep_token {
            return Ok(Vec::new());
        }
        self.target.token_variables()
    }

    /// Reads the secrets for which `is_wanted` holds, each once, so that the values of several variables belong together.
    async fn read(
        &self,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<&str, Secret>, Failure> {
        let client = self.target.client()?;
        let mut secrets = BTreeMap::new();
        for variable in &self.env {
            let id = variable.secret_id.as_str();
            if is_wanted(id) && !secrets.contains_key(id) {
                let secret = self.target.read(&client, id).await;
                secrets.insert(id, secret.map_err(|failure| variable.failed(failure))?);
            }
        }
        Ok(secrets)
    }

    /// Returns the values of the variables that get one of the secrets.
    fn values(&self, secrets: &BTreeMap<&str, Secret>) -> Result<Values<'_>, Failure> {
        let mut values = BTreeMap::new();
        for variable in &self.env {
            let Some(secret) = secrets.get(variable.secret_id.as_str()) else {
                continue;
            };
            let value = match &variable.field {
                Some(field) => member(&secret.value, field)
                    .map_err(|error| variable.failed(Failure::from(error)))?,
                None => secret.value.clone(),
            };
            if platform::env_value(&value).is_none() {
                return Err(variable.failed(Failure::failed(
                    "the value has a zero byte or another one in it that no environment variable can hold",
                )));
            }
            if values.insert(variable.name.as_str(), value).is_some() {
                let name = &variable.name;
                return Err(Failure::usage(format!("{name} is asked for twice")));
            }
        }
        Ok(values)
    }
}
