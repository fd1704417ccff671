//! Running agent that a client command addresses.

mod origin;

use std::path::PathBuf;

use clap::ValueHint;
use http::StatusCode;
use kms_agent_server::read_value;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use self::origin::TokenOrigin;
use super::agent::overrides;
use super::token::parse_user;
use crate::client::port_holder::{TrustedUsers, Uid};
use crate::client::{Client, Reply, ShownToken};
use crate::config::Config;
use crate::exit::Failure;
use crate::token::file;
use crate::token::location::TokenLocation;

/// Current version of a secret.
#[derive(Debug)]
pub(super) struct Secret {
    pub(super) value: Zeroizing<Vec<u8>>,
    #[cfg(unix)]
    version_id: Option<String>,
}

impl Secret {
    /// Returns the version, which only agents without change delivery leave out.
    #[cfg(unix)]
    pub(super) fn version_id(&self) -> Result<&str, Failure> {
        self.version_id
            .as_deref()
            .ok_or_else(|| Failure::failed("the agent's response has no VersionId"))
    }
}

/// Options that select the agent.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AgentTarget {
    /// Take port, token variables and header from the agent's config file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// The agent's port, instead of the config file's or 2025
    #[arg(long, value_parser = parse_port)]
    port: Option<u16>,
    /// The agent's Unix socket, instead of a port; without a token the agent knows the caller by its user
    #[arg(long, value_name = "PATH", env = "KMS_AGENT_SOCKET", hide_env_values = true, value_hint = ValueHint::FilePath)]
    socket: Option<PathBuf>,
    /// The user that the agent runs as, by name or number, if it is neither root, nor the caller, nor the owner of the
    /// token file; a process of any other user is not asked
    #[arg(long, value_name = "USER", env = "KMS_AGENT_USER", hide_env_values = true, value_parser = parse_user,
        value_hint = ValueHint::Username)]
    agent_user: Option<Uid>,
}

impl AgentTarget {
    /// Returns a client without a token, for health. A token file only tells which user runs the agent.
    pub(super) fn anonymous(&self) -> Result<Client, Failure> {
        let config = self.read_config()?;
        let origin = TokenOrigin::find(&config.server.token_variables).ok();
        Ok(Client {
            port: self.port.unwrap_or(config.server.http_port),
            socket: self.socket_path(),
            trusted: Some(self.trusted(origin.as_ref())),
            token: None,
        })
    }

    /// Returns a client with the token of the environment, or with that of the default token file.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let config = self.read_config()?;
        let origin = match TokenOrigin::find(&config.server.token_variables) {
            // Through the socket the agent may know this user.
            Err(_) if self.socket_path().is_some() => return self.anonymous(),
            origin => origin?,
        };
        let trusted = self.trusted(Some(&origin));
        let bytes = match &origin.found {
            TokenLocation::Literal { text, .. } => Zeroizing::new(text.as_bytes().to_vec()),
            TokenLocation::File(path) => file::read(path).map_err(|error| {
                Failure::failed(format!("the token {origin} cannot be read: {error}"))
            })?,
        };
        let header = config.server.http.ssrf_headers.into_iter().next();
        Ok(Client {
            port: self.port.unwrap_or(config.server.http_port),
            socket: self.socket_path(),
            trusted: Some(trusted),
            token: header.map(|header| ShownToken {
                header,
                token: Zeroizing::new(bytes.trim_ascii().to_vec()),
            }),
        })
    }

    fn socket_path(&self) -> Option<PathBuf> {
        let given = self.socket.clone();
        given.filter(|path| cfg!(unix) && !path.as_os_str().is_empty())
    }

    /// Returns the users whose processes may be the agent.
    fn trusted(&self, token: Option<&TokenOrigin>) -> TrustedUsers {
        let path = match token.map(|origin| &origin.found) {
            Some(TokenLocation::File(path)) => Some(path.as_path()),
            Some(TokenLocation::Literal { .. }) | None => None,
        };
        TrustedUsers::of_token(path).and(self.agent_user)
    }

    /// Returns the names of the environment variables that may hold the agent's token.
    pub(super) fn token_variables(&self) -> Result<Vec<String>, Failure> {
        Ok(self.read_config()?.server.token_variables)
    }

    /// Reads the current version of a secret.
    pub(super) async fn read(&self, client: &Client, secret_id: &str) -> Result<Secret, Failure> {
        let query = format!("/secretsmanager/get?secretId={}", encoded(secret_id));
        let reply = client.ask_as_kms(&query).await?;
        if reply.status != StatusCode::OK {
            return Err(self.refusal(&reply));
        }
        Ok(Secret {
            value: read_value(&reply.body)?,
            #[cfg(unix)]
            version_id: read_version(&reply.body),
        })
    }

    /// Returns the failure that `reply`, which is not a success, stands for.
    pub(super) fn refusal(&self, reply: &Reply) -> Failure {
        let is_about_token = reply.status == StatusCode::FORBIDDEN
            && reply
                .error()
                .is_some_and(|(code, _)| code == "InvalidToken");
        if !is_about_token {
            return reply.refusal();
        }
        let Ok(origin) = self
            .token_variables()
            .and_then(|variables| TokenOrigin::find(&variables))
        else {
            return reply.refusal();
        };
        Failure::failed(format!(
            "InvalidToken: the agent does not accept the token {origin}. Take that agent's token, or name another agent \
             with --port or --config"
        ))
    }

    fn read_config(&self) -> Result<Config, Failure> {
        match &self.config {
            Some(path) => Config::load(path, &overrides()),
            None => Config::parse_with("", "the defaults", &overrides()),
        }
        .map_err(Failure::from)
    }
}

/// Returns the VersionId in the body of a response.
#[cfg(unix)]
fn read_version(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Version {
        #[serde(rename = "VersionId")]
        id: String,
    }
    serde_json::from_slice(body)
        .ok()
        .map(|version: Version| version.id)
}

/// Percent-encodes the value of a query parameter.
pub(super) fn encoded(text: &str) -> String {
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~');
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Parses a port that an agent can listen on.
fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port >= 1024 => Ok(port),
        _ => Err("write a port from 1024 to 65535".to_owned()),
    }
}

/// Parses a text that is not empty.
pub(super) fn parse_name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("it may not be empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}
