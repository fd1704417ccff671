//! What can be seen on this machine: token, port and cache.

use std::time::Duration;

use kms_agent_server::Listeners;
use serde_json::Value;

use crate::client::Client;
use crate::config::Config;
use crate::exit::Failure;
use crate::port_holder::{self, TrustedUsers};
use crate::token::source::TokenSource;

/// How long whoever holds the port may take to show that it is an agent.
const PATIENCE: Duration = Duration::from_secs(2);

/// Each step with what was found, or why the agent would not start.
pub(super) fn examine(config: &Config) -> [(&'static str, Result<String, Failure>); 3] {
    let token = find_token(config);
    let path = token.as_ref().ok().and_then(TokenSource::path);
    let trusted = TrustedUsers::of_token(path);
    [
        (
            "token",
            token
                .as_ref()
                .map_err(Failure::clone)
                .and_then(TokenSource::examine),
        ),
        ("port", port(config.server.http_port, trusted)),
        ("cache", cache(config)),
    ]
}

fn find_token(config: &Config) -> Result<TokenSource, Failure> {
    TokenSource::find(&config.server.token_variables, |name| {
        std::env::var_os(name)
    })
}

fn port(port: u16, trusted: TrustedUsers) -> Result<String, Failure> {
    if port == 0 {
        return Ok("a free one is drawn at every start".to_owned());
    }
    match Listeners::probe(port) {
        Ok(addresses) => Ok(format!("{} free", addresses.join(" and "))),
        Err(error) => {
            held(port, &trusted).unwrap_or_else(|| Err(Failure::config(error.to_string())))
        }
    }
}

/// Says who holds the port, if that is known: an agent of a trusted user may, and a stranger may not.
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

/// Whether what holds the port answers as an agent does. It is not shown the token.
fn is_agent(port: u16) -> bool {
    let client = Client { port, token: None };
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
        .map_err(|error| Failure::config(error.to_string()))
}
