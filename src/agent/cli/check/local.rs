//! What can be seen on this machine: token, port and cache.

use std::time::Duration;

use kms_agent_server::Listeners;
use serde_json::Value;

use crate::client::Client;
use crate::config::Config;
use crate::exit::Failure;
use crate::token::source::TokenSource;

/// How long whoever holds the port may take to show that it is an agent.
const PATIENCE: Duration = Duration::from_secs(2);

/// Each step with what was found, or why the agent would not start.
pub(super) fn examine(config: &Config) -> [(&'static str, Result<String, Failure>); 3] {
    [
        ("token", token(config)),
        ("port", port(config.server.http_port)),
        ("cache", cache(config)),
    ]
}

fn token(config: &Config) -> Result<String, Failure> {
    let lookup = |name: &str| std::env::var_os(name);
    TokenSource::find(&config.server.token_variables, lookup)?.examine()
}

fn port(port: u16) -> Result<String, Failure> {
    match Listeners::open(port) {
        Ok(_) if port == 0 => Ok("a free one is drawn at every start".to_owned()),
        Ok(listeners) => Ok(format!("{} free", listeners.addresses().join(" and "))),
        Err(_) if is_agent(port) => Ok(format!("an agent runs on {port} already")),
        Err(error) => Err(Failure::config(error.to_string())),
    }
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
        .map_err(Failure::from)
}
