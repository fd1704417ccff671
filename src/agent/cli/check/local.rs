//! Steps that need this machine only: token, port and cache.

use std::path::Path;
use std::time::Duration;

use kms_agent_server::Listeners;
use serde_json::Value;

use crate::cli::agent::environment;
use crate::client::Client;
use crate::client::port_holder::{self, TrustedUsers};
use crate::compose::files::resolve;
use crate::config::Config;
use crate::exit::Failure;
use crate::process::harden::{self, Circumstances};
use crate::process::reach::Reach;
use crate::process::rehearsal;
use crate::token::source::TokenSource;

/// Time in which the process on the port must answer as an agent does.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns each step with its finding, or with the reason why the agent would not start. The order is that of the
/// agent's startup, and the process gives up the same rights.
pub(super) fn examine(
    config: &Config,
    config_path: &Path,
) -> Vec<(&'static str, Result<String, Failure>)> {
    let token = find_token(config);
    let path = token.as_ref().ok().and_then(TokenSource::path);
    let port = port(config.server.http_port, TrustedUsers::of_token(path));
    let circumstances = Circumstances {
        connections: config.server.http.max_conn,
        is_trial: false,
    };
    let mut warnings = harden::give_up_capabilities(circumstances);
    let found = token
        .as_ref()
        .map_err(Failure::clone)
        .and_then(TokenSource::examine)
        .map_err(|failure| rehearsal::explain(failure, path));
    let cache = cache(config);
    let files = files(config);
    // A token file that is refused has its own line already.
    let path = path.filter(|_| found.is_ok());
    let reach = Reach::find(config, Some(config_path), &environment(), path);
    warnings.extend(rehearsal::rehearse(&reach, &config.log.target));
    let (_, more) = harden::confine(reach, circumstances);
    warnings.extend(more);
    let mut steps = vec![("token", found), ("port", port), ("cache", cache)];
    steps.extend(files.into_iter().map(|found| ("files", found)));
    steps.push(("process", Ok(process(&warnings))));
    steps
}

/// Returns a line for each file of the config, without writing one.
fn files(config: &Config) -> Vec<Result<String, Failure>> {
    let files = match resolve(&config.files) {
        Ok(files) => files,
        Err(why) => return vec![Err(Failure::config(why))],
    };
    let lines = files.iter().map(|file| {
        let path = file.target.path.display();
        match file.examine() {
            Ok(None) => Ok(format!("{path} can be written")),
            Ok(Some(warning)) => Ok(format!("{path} can be written; warning: {warning}")),
            Err(why) => Err(Failure::failed(format!("{path} cannot be written: {why}"))),
        }
    });
    lines.collect()
}

/// Line about the rights that the process gives up.
fn process(warnings: &[String]) -> String {
    if warnings.is_empty() {
        return "hardened".to_owned();
    }
    format!("hardened; warning: {}", warnings.join("; warning: "))
}

fn find_token(config: &Config) -> Result<TokenSource, Failure> {
    TokenSource::find(&config.server.token_variables, |name| {
        std::env::var_os(name)
    })
}

fn port(port: u16, trusted: TrustedUsers) -> Result<String, Failure> {
    if port == 0 {
        return Ok("a free one is selected at every startup".to_owned());
    }
    match Listeners::probe(port) {
        Ok(addresses) => Ok(format!("{} free", addresses.join(" and "))),
        Err(error) => {
            held(port, &trusted).unwrap_or_else(|| Err(Failure::config(error.to_string())))
        }
    }
}

/// Reports the process that holds the port, if it is known: an agent of a trusted user is accepted, any other process
/// is not.
fn held(port: u16, trusted: &TrustedUsers) -> Option<Result<String, Failure>> {
    let users = port_holder::listening_on(port);
    if let Some(stranger) = users.iter().find(|user| !trusted.contains(**user)) {
        return Some(Err(Failure::config(format!(
            "port {port} is held by a process of {}, which is neither root, nor you, nor the owner of the token file, \
             and would collect tokens; stop it, then make another token with: alibabacloud-kms-agent token PATH",
            port_holder::name_of(*stranger)
        ))));
    }
    let by = users
        .first()
        .map(|user| format!(", run by {}", port_holder::name_of(*user)));
    is_agent(port).then(|| {
        Ok(format!(
            "an agent runs on {port} already{}",
            by.unwrap_or_default()
        ))
    })
}

/// Whether the process on the port answers as an agent does. It does not get the token.
fn is_agent(port: u16) -> bool {
    let client = Client {
        port,
        socket: None,
        trusted: None,
        token: None,
    };
    let Ok(reply) = client.probe("/readyz", PATIENCE) else {
        return false;
    };
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    body.get("ready").is_some_and(Value::is_boolean) && body.get("checks").is_some()
}

fn cache(config: &Config) -> Result<String, Failure> {
    let backend = &config.cache.backend;
    let found = backend.config.examine();
    found
        .map(|found| format!("{}: {found}", backend.name))
        .map_err(Failure::from)
}
