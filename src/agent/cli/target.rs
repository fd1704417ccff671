//! The running agent that a client command means.

use std::ffi::OsString;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::token::parse_user;
use crate::client::{Client, ShownToken};
use crate::config::Config;
use crate::exit::Failure;
use crate::port_holder::{TrustedUsers, Uid};
use crate::token::file;
use crate::token::source::{Found, find};

/// Which agent to ask.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// Take port, token variables and header from the agent's config file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The agent's port, instead of the config file's or 2025
    #[arg(long)]
    port: Option<u16>,
    /// The user that the agent runs as, by name or number, if it is neither root, nor the caller, nor the owner of the
    /// token file: the token is sent to no other user's process
    #[arg(long, value_name = "USER", env = "KMS_AGENT_USER", value_parser = parse_user)]
    agent_user: Option<Uid>,
}

impl Target {
    /// A client without a token, for health.
    pub(super) fn anonymous(&self) -> Result<Client, Failure> {
        let config = self.read_config()?;
        Ok(Client {
            port: self.port.unwrap_or(config.server.http_port),
            token: None,
        })
    }

    /// A client with the token that the environment gives, as the agent itself would find it.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let config = self.read_config()?;
        let lookup = |name: &str| -> Option<OsString> { std::env::var_os(name) };
        let found = find(&config.server.token_variables, lookup)?;
        let path = match &found {
            Found::Literal(_) => None,
            Found::File(path) => Some(path.as_path()),
        };
        let trusted = TrustedUsers::of_token(path).and(self.agent_user);
        let bytes = match &found {
            Found::Literal(text) => Zeroizing::new(text.as_bytes().to_vec()),
            Found::File(path) => file::read(path).map_err(|error| {
                Failure::failed(format!(
                    "the token file {} cannot be read: {error}",
                    path.display()
                ))
            })?,
        };
        let header = config.server.http.ssrf_headers.into_iter().next();
        Ok(Client {
            port: self.port.unwrap_or(config.server.http_port),
            token: header.map(|header| ShownToken {
                header,
                token: Zeroizing::new(bytes.trim_ascii().to_vec()),
                trusted,
            }),
        })
    }

    fn read_config(&self) -> Result<Config, Failure> {
        match &self.config {
            Some(path) => Config::load(path),
            None => Config::parse("", "the defaults"),
        }
        .map_err(|error| Failure::problems(&error))
    }
}

/// A parameter's value as it goes into a query.
pub(super) fn encoded(text: &str) -> String {
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~');
    utf8_percent_encode(text, RESERVED).to_string()
}
