//! Listeners at startup: inherited from the service manager if it holds the port, otherwise bound here.

use std::net::TcpListener;

use kms_agent_server::{BindError, Listeners};

use crate::client::port_holder::{self, TrustedUsers};
use crate::exit::Failure;
use crate::platform;
use crate::token::source::TokenSource;

/// Open listeners, and inherited ones that are not used.
#[derive(Debug)]
pub(crate) struct OpenListeners {
    pub(crate) listeners: Listeners,
    /// Port of inherited listeners that are not used, since the config names another one.
    pub(crate) unused_port: Option<u16>,
}

/// Opens the listeners on `port`. Inherited ones are taken over if they have that port. Another port in the config
/// takes precedence, since an operator who changes the config file restarts the service and not the .socket unit. If
/// another user's process holds the port, applications may have sent it the token. The token is then withdrawn, so that
/// the next startup creates another one.
pub(crate) fn open(port: u16, token: &TokenSource) -> Result<OpenListeners, Failure> {
    let inherited = platform::inherited_listeners().map_err(|error| {
        Failure::of_io(
            "cannot take over an inherited socket",
            &error,
            "Check what LISTEN_FDS promises, and the .socket unit",
        )
    })?;
    let adopted = adopt(inherited, token)?;
    let unused_port = match adopted {
        Some(listeners) if port == 0 || port == listeners.port() => {
            return Ok(OpenListeners {
                listeners,
                unused_port: None,
            });
        }
        other => other.map(|listeners| listeners.port()),
    };
    let listeners = Listeners::open(port).map_err(|error| explain(&error, token))?;
    Ok(OpenListeners {
        listeners,
        unused_port,
    })
}

/// Takes over inherited listeners, if there are any.
fn adopt(inherited: Vec<TcpListener>, token: &TokenSource) -> Result<Option<Listeners>, Failure> {
    if inherited.is_empty() {
        return Ok(None);
    }
    Listeners::adopt(inherited)
        .map(Some)
        .map_err(|error| explain(&error, token))
}

fn explain(error: &BindError, token: &TokenSource) -> Failure {
    match error {
        BindError::Unsuitable { .. } => Failure::config(error.to_string()),
        BindError::InUse { port, .. } => held_by_another(*port, error, token),
        BindError::Refused { .. } => Failure::failed(error.to_string()),
    }
}

fn held_by_another(port: u16, error: &BindError, token: &TokenSource) -> Failure {
    let trusted = TrustedUsers::of_token(token.path());
    let Some(stranger) = port_holder::listening_on(port)
        .into_iter()
        .find(|user| !trusted.contains(*user))
    else {
        return Failure::failed(error.to_string());
    };
    Failure::failed(format!(
        "{error}. The process belongs to {}, so tokens may have been collected. {}",
        port_holder::name_of(stranger),
        token.withdraw(),
    ))
}
