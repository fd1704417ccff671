//! Clients of the config, with their tokens open and their users and groups found.

use std::path::PathBuf;
use std::sync::Arc;

use kms_agent_core::Pattern;
use kms_agent_server::caller::{
    Access, AccessRules, Client, ClientSettings, GroupLookup, UnmappedIds,
};
use kms_agent_server::{Token, TokenStore};

use crate::config::Config;
use crate::exit::Failure;
use crate::platform;
use crate::token::file::TokenFileId;
use crate::token::follow::{FollowedToken, Following};
use crate::token::source::TokenSource;

/// Clients of one config, before their tokens are in stores.
#[derive(Debug)]
pub(super) struct OpenClients {
    clients: Vec<OpenClient>,
    /// Findings about token files.
    pub(super) warnings: Vec<String>,
}

#[derive(Debug)]
struct OpenClient {
    settings: ClientSettings,
    token: Option<OpenToken>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug)]
struct OpenToken {
    path: PathBuf,
    token: Token,
    file: Option<TokenFileId>,
}

impl OpenClients {
    /// Opens the token files of `settings`, and creates missing ones, as for the agent's own token. `own` is the file of
    /// that one.
    pub(super) fn open(
        settings: &[ClientSettings],
        own: Option<TokenFileId>,
    ) -> Result<Self, Failure> {
        let mut known: Vec<TokenFileId> = own.into_iter().collect();
        let mut warnings = Vec::new();
        let mut clients = Vec::with_capacity(settings.len());
        for client in settings {
            let about = |failure: Failure| failure.about(format!("Client {}", client.name));
            let token = match &client.token_file {
                None => None,
                Some(path) => {
                    let first = TokenSource::File(path.clone()).open().map_err(about)?;
                    if let Some(file) = first.file {
                        if known.contains(&file) {
                            return Err(Failure::config(format!(
                                "Client {}: its TokenFile {} is that of another caller; give each a token of its own",
                                client.name,
                                path.display()
                            )));
                        }
                        known.push(file);
                    }
                    warnings.extend(first.warnings);
                    Some(OpenToken {
                        path: path.clone(),
                        token: first.token,
                        file: first.file,
                    })
                }
            };
            clients.push(OpenClient {
                token,
                uid: number(client, "User", client.user.as_deref(), platform::user)?,
                gid: number(client, "Group", client.group.as_deref(), platform::group)?,
                settings: client.clone(),
            });
        }
        Ok(Self { clients, warnings })
    }

    /// Returns the callers, and the token files to follow.
    pub(super) fn into_access(
        self,
        default_secrets: &[Pattern],
        own: &Arc<TokenStore>,
        unmapped: UnmappedIds,
    ) -> (Arc<Access>, Vec<FollowedToken>) {
        let (rules, followed) = self.into_rules(default_secrets, own, &[]);
        let groups = Arc::new(SystemGroups);
        let access = Access::new(Arc::clone(own), rules, groups, unmapped);
        (Arc::new(access), followed)
    }

    /// Returns the rules, and the token files to follow. A token file that `former` has keeps its store, so
    /// that the token in force stays; other stores are read together with `own`.
    fn into_rules(
        self,
        default_secrets: &[Pattern],
        own: &TokenStore,
        former: &[FollowedToken],
    ) -> (AccessRules, Vec<FollowedToken>) {
        let mut followed = Vec::new();
        let mut clients = Vec::new();
        for client in self.clients {
            let store = client.token.map(|open| {
                let known = former.iter().find(|it| it.path == open.path);
                let store = known.map_or_else(
                    || Arc::new(own.beside(open.token)),
                    |known| Arc::clone(&known.store),
                );
                followed.push(FollowedToken {
                    path: open.path,
                    store: Arc::clone(&store),
                    file: open.file,
                });
                store
            });
            clients.push(Client::new(&client.settings, store, client.uid, client.gid));
        }
        (
            AccessRules::new(clients, default_secrets.to_vec()),
            followed,
        )
    }
}

/// Running parts that a reload of the clients changes.
pub(super) struct Callers {
    pub(super) access: Arc<Access>,
    pub(super) own: Arc<TokenStore>,
    /// File of the agent's own token at startup.
    pub(super) own_file: Option<TokenFileId>,
    pub(super) following: Arc<Following>,
}

impl Callers {
    /// Puts the clients of `config` in force. Waits for the disk.
    pub(super) fn replace(&self, config: &CallerConfig) -> Result<(), Failure> {
        let open = OpenClients::open(&config.clients, self.own_file)?;
        for warning in &open.warnings {
            if kms_agent_trust::is_new_warning(warning) {
                tracing::warn!(
                    cause = warning.as_str(),
                    "The permissions of a file are not safe"
                );
            }
        }
        let former = self.following.clients();
        let (rules, followed) = open.into_rules(&config.default_secrets, &self.own, &former);
        self.following.set_clients(followed)?;
        self.access.replace(rules);
        Ok(())
    }
}

/// Settings of the callers.
#[derive(Clone, Debug)]
pub(super) struct CallerConfig {
    pub(super) clients: Vec<ClientSettings>,
    pub(super) default_secrets: Vec<Pattern>,
}

impl CallerConfig {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            clients: config.clients.clone(),
            default_secrets: config.server.http.default_secrets.clone(),
        }
    }
}

/// Returns the number that `text`, a name or a number, stands for.
fn number(
    client: &ClientSettings,
    key: &str,
    text: Option<&str>,
    look_up: fn(&str) -> Option<u32>,
) -> Result<Option<u32>, Failure> {
    let Some(text) = text else { return Ok(None) };
    match text.parse().ok().or_else(|| look_up(text)) {
        Some(number) => Ok(Some(number)),
        None => Err(Failure::config(format!(
            "Client {}: its {key} is not known here: there is no such entry in /etc/{}; create it, or write its number",
            client.name,
            if key == "User" { "passwd" } else { "group" }
        ))),
    }
}

/// Warning about clients that no caller can be, since the kernel does not tell their users apart here.
pub(crate) fn namespace_warning(config: &Config, unmapped: UnmappedIds) -> Option<String> {
    let by_credentials = |client: &ClientSettings| client.user.is_some() || client.group.is_some();
    let overflow = unmapped.uid.or(unmapped.gid)?;
    config.clients.iter().any(by_credentials).then(|| {
        format!(
            "the id map of this user namespace is not complete: users that it does not know show as {overflow}, which \
             matches no Client; run the agent without a user namespace of its own (PrivateUsers=no)"
        )
    })
}

/// Supplementary groups, as /etc/group lists them.
#[derive(Debug)]
struct SystemGroups;

impl GroupLookup for SystemGroups {
    fn groups_of(&self, uid: u32, gid: u32) -> Vec<u32> {
        platform::groups_of(uid, gid)
    }
}
